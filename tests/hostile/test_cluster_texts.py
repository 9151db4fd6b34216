"""TF_CONFIG as anybody may set it: a cluster, or one sentence."""

import json
import os
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import cluster
from experiments.errors import RunError

SOUND = json.loads(cluster.EXAMPLE)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["worker", "chief", "index", "type", "x"]), inner),
    ),
    max_leaves=6,
)


def describe(text):
    with mock.patch.dict(os.environ, TF_CONFIG=text):
        return cluster.describe()


def describe_or_refuse(text):
    try:
        found = describe(text)
    except RunError as error:
        assert str(error).startswith("TF_CONFIG must be JSON such as") and "Received: " in str(
            error
        )
        return
    task = found["task"]
    assert found["cluster"][task["type"]][task["index"]].rpartition(":")[1]


@settings(max_examples=150, derandomize=True, database=None, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
def test_any_text(text):
    describe_or_refuse(text)


@pytest.mark.slow
@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(VALUES, VALUES, st.sampled_from(["all", "cluster", "worker", "task", "index"]))
def test_any_value_in_any_place(value, other, place):
    texts = {
        "all": value,
        "cluster": {**SOUND, "cluster": value},
        "worker": {**SOUND, "cluster": {"worker": [value, other]}},
        "task": {**SOUND, "task": value},
        "index": {**SOUND, "task": {"type": "worker", "index": value}},
    }
    describe_or_refuse(json.dumps(texts[place]))


def test_deep_nesting():
    with pytest.raises(RunError, match="TF_CONFIG must be JSON"):
        describe("[" * 100_000)
