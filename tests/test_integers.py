import numpy as np
import pytest
import tensorflow as tf

from pkkd_tf.integers import integer, integers


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.array, tf.constant])
def test_integers_become_pythons(kind):
    assert type(integer(kind(10))) is int and integer(kind(10)) == 10
    assert integers([kind(2), kind(1)]) == (2, 1)
    assert {type(number) for number in integers([kind(2), kind(1)])} == {int}


@pytest.mark.parametrize("value", [10.0, np.float32(10), "10", None, np.True_, np.array([1, 2])])
def test_everything_else_is_none(value):
    assert integer(value) is None
    assert integers([1, value]) == ()


def test_what_cannot_be_gone_over_holds_no_integers():
    assert integers(2) == ()
