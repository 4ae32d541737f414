"""The load on the page: every answer counts, and one that is none is told."""

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
sys.path += [str(ROOT), str(ROOT / "tests")]
from helpers import indexes, serving, small_runs  # noqa: E402

import jax_mspac  # noqa: E402
from benchmarks import serve_load  # noqa: E402


class Here:
    """A `Remote` whose object is in this process."""

    def __init__(self, made):
        self._made = made

    def __call__(self, method, *arguments):
        return getattr(self._made, method)(*arguments)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return jax_mspac.load(indexes.trained(small_runs.draw(tmp_path_factory.mktemp("load")), "run"))


def test_users_are_answered_what_the_index_answers(tmp_path, model):
    shots = serving.fill(tmp_path, model)[:3]
    with serving.running(tmp_path, model) as address:
        port = int(address.rpartition(":")[2])
        peer = serve_load.InProcess(str(tmp_path / "index"), "visible")
        peer._index._embedded.model_of(model)
        serve_load.check(port, Here(peer), shots, "visible")
        with pytest.raises(RuntimeError, match="the page found"):
            serve_load.check(port, lambda method, image: peer.found(shots[0]), shots, "visible")
        latencies = serve_load.load(port, shots, "visible", users=2, seconds=1)
        assert len(latencies) >= 2 and sum(latencies) <= 2 * 60 and min(latencies) > 0
        assert peer.latencies(shots, 0.2)
        (tmp_path / "notes.png").write_text("no image")
        with pytest.raises(RuntimeError, match="2 of 2 users were not answered: status 400"):
            serve_load.load(port, [tmp_path / "notes.png"], "visible", users=2, seconds=1)
        peer._index.close()
