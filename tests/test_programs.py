"""Compiled programs on disk: what finds them again, and what must not."""

import functools
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from test_train import folder_config, metrics_of
from trees import draw_folder_tree

from jax_mspac import parallel, programs, train
from jax_mspac.methods.learned import Learned


@pytest.fixture
def folder(tmp_path):
    programs.keep(tmp_path / "programs")
    yield tmp_path / "programs"
    programs.keep(None)


@pytest.fixture
def empty_cache_of_jax(tmp_path):
    """What other tests have compiled is not in it."""
    settings = {"jax_compilation_cache_dir": str(tmp_path / "xla"), "jax_persistent_cache_min_compile_time_secs": 0}
    before = {name: jax.config.values[name] for name in settings}
    try:
        compilation_cache.reset_cache()
        for name, value in settings.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


class Traced:
    """A function that counts how often it is traced."""

    def __init__(self, weight=2.0):
        self.count, self.weight = 0, weight

    def __call__(self, x):
        self.count += 1
        return {"scaled": self.weight * x, "sum": (x.sum(),)}


def called(function, argument, *, made_from="it"):
    # A new function each time, as in a new process: `jax.jit` remembers what it has traced.
    return programs.kept(jax.jit(lambda x: function(x)), made_from=made_from)(argument)


def test_a_program_is_traced_once(folder):
    function, x = Traced(), jnp.arange(3.0)
    for _ in range(3):
        given = called(function, x)
        np.testing.assert_array_equal(given["scaled"], [0.0, 2.0, 4.0])
        assert given["sum"][0] == 3.0
    assert function.count == 1
    assert len(list(folder.iterdir())) == 1


def test_a_program_from_the_cache_of_jax_is_not_written_again(folder, empty_cache_of_jax):
    # Written again it would lack the functions of its fusions, and fail where it is run.
    for kept in (1, 0):
        function = Traced()
        assert called(function, jnp.ones(300))["sum"][0] == 300.0
        assert len(list(folder.glob("*.program"))) == kept
        shutil.rmtree(folder, ignore_errors=True)
        jax.clear_caches()
    assert called(function, jnp.ones(300))["sum"][0] == 300.0


def other_made_from(monkeypatch):
    return {"made_from": "something else"}


def other_shape(monkeypatch):
    return {"argument": jnp.zeros(4)}


def other_dtype(monkeypatch):
    return {"argument": jnp.zeros(3, jnp.int32)}


def other_source(monkeypatch):
    monkeypatch.setattr(programs, "_digest", lambda package: "other")


def other_processor(monkeypatch):
    monkeypatch.setattr(programs, "_processor", lambda: "flags: none")


def other_flags(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")


def other_version(monkeypatch):
    monkeypatch.setattr(programs.importlib.metadata, "version", lambda name: "0")


@pytest.mark.parametrize(
    "change",
    [other_made_from, other_shape, other_dtype, other_source, other_processor, other_flags, other_version],
)
def test_a_program_made_from_something_else_is_not_taken(folder, monkeypatch, change):
    function = Traced()
    same = {"argument": jnp.zeros(3), "made_from": "it"}
    called(function, **same)
    called(function, **{**same, **(change(monkeypatch) or {})})
    assert function.count == 2


def test_settings_of_jax_count(folder):
    function = Traced()
    called(function, jnp.zeros(3))
    with jax.default_matmul_precision("highest"):
        called(function, jnp.zeros(3))
    assert function.count == 2


def test_every_source_file_counts(tmp_path):
    digests = set()
    for content in ("a = 1", "a = 2"):
        (tmp_path / "inner").mkdir(exist_ok=True)
        (tmp_path / "inner" / "one.py").write_text(content)
        programs._digest.cache_clear()
        digests.add(programs._digest(tmp_path))
    (tmp_path / "inner" / "one.py").rename(tmp_path / "two.py")
    programs._digest.cache_clear()
    digests.add(programs._digest(tmp_path))
    assert len(digests) == 3


@pytest.mark.parametrize("content", [b"", b"no program", b"\x80\x05N."])
def test_a_broken_file_is_made_anew(folder, content):
    function = Traced()
    called(function, jnp.zeros(3))
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(content)
    called(function, jnp.zeros(3))
    assert function.count == 2 and len(file.read_bytes()) == pytest.approx(len(whole), rel=0.1)
    called(function, jnp.zeros(3))
    assert function.count == 2


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    programs.keep(tmp_path / "file" / "programs")
    try:
        assert called(Traced(), jnp.ones(3))["sum"][0] == 3.0
    finally:
        programs.keep(None)


def test_the_programs_used_last_stay(folder, monkeypatch):
    monkeypatch.setattr(programs, "_MOST", 2)
    for made_from in ("a", "b"):
        called(Traced(), jnp.zeros(3), made_from=made_from)
        for file in folder.iterdir():
            os.utime(file, (0, os.path.getmtime(file) - 10))  # as if it was made before
    function = Traced()
    called(function, jnp.zeros(3), made_from="a")
    called(Traced(), jnp.zeros(3), made_from="c")
    called(function, jnp.zeros(3), made_from="a")
    assert function.count == 0 and len(list(folder.iterdir())) == 2
    called(function, jnp.zeros(3), made_from="b")
    assert function.count == 1


def test_programs_are_not_kept_unless_asked_for(tmp_path):
    function = jax.jit(Traced())
    assert programs.kept(function, made_from="it") is function


def test_a_donated_state_is_donated_by_a_program_from_disk(folder):
    def update(state, batch):
        return jax.tree.map(lambda x: x + parallel.average(batch).sum(), state), {"loss": batch.sum()}

    for _ in range(2):
        step = programs.kept(parallel.data_parallel(update), made_from="update")
        before = parallel.replicate({"w": np.ones((2, 3), np.float32)})
        state, metrics = step(before, parallel.shard(np.ones((jax.device_count(), 4), np.float32)))
        state, metrics = step(state, parallel.shard(np.ones((jax.device_count(), 4), np.float32)))
        assert before["w"].is_deleted()
        np.testing.assert_array_equal(state["w"], np.full((2, 3), 9.0))
        assert metrics["loss"] == 4.0


def test_a_run_from_kept_programs_is_the_same_run(folder, empty_cache_of_jax, tmp_path, monkeypatch):
    traces = []

    @functools.wraps(Learned.update)
    def counted(self, state, batch, update=Learned.update):
        traces.append(self)
        return update(self, state, batch)

    monkeypatch.setattr(Learned, "update", counted)
    draw_folder_tree(tmp_path / "tree", identities=[f"person {i}" for i in range(13)], images=2)
    config = folder_config(tmp_path)
    results = [train.train(config, tmp_path / name) for name in ("first", "second")]
    assert len(traces) == 1
    assert results[0]["rows"] == results[1]["rows"]
    assert metrics_of(tmp_path / "first") == metrics_of(tmp_path / "second")
