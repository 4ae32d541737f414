"""A run and its model, for the tests of the index."""

import pytest
from helpers import indexes, small_runs

import jax_mspac


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_runs.draw(tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def model(folder):
    return jax_mspac.load(indexes.trained(folder, "run"))
