"""A run and its model, and the places where an index may be, for the tests of the index."""

import itertools

import pytest
from helpers import indexes, small_runs

import jax_mspac


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_runs.draw(tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def model(folder):
    return jax_mspac.load(indexes.trained(folder, "run"))


@pytest.fixture(scope="session")
def cluster():
    """A server of collections; see `qdrant_server`."""
    pytest.importorskip("qdrant_client")
    from helpers import qdrant_server

    with qdrant_server.running() as server:
        yield server


_names = itertools.count()


@pytest.fixture(params=["folder", "qdrant"])
def place(request, tmp_path):
    """Where an index may begin: a folder, and a collection."""
    if request.param == "folder":
        return tmp_path / "index"
    return request.getfixturevalue("cluster").address(f"index-{next(_names)}")
