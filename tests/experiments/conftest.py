"""The flags of the training programs, which a process defines but once."""

import pytest

from experiments import flags


@pytest.fixture(scope="session")
def defined():
    flags.define(model="digits_resnet")
