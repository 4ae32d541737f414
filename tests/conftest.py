"""Settings of the whole test run: several CPU devices, strict shapes, and optional reference data."""

import collections
import gc
import importlib.metadata
import os
import pathlib
from collections.abc import Iterator

# A tenth of the time went into looking through the libraries' objects, which stay, and a tracer's, which pass.
gc.set_threshold(20_000, 20, 20)
# Tests compile much and compute little; the processes that they start, too.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# Loops that are not made by way of MLIR compile in half the time; since 0.11.1 jaxlib has no others, and it ends at a
# flag that it does not know.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_cpu_parallel_codegen_split_count=1"
    + " --xla_cpu_use_fusion_emitters=false" * (importlib.metadata.version("jaxlib") in ("0.10.2", "0.11.0"))
)

import jax  # noqa: E402
import pytest  # noqa: E402

from jax_mspac.methods import METHODS  # noqa: E402
from jax_mspac.runtime import memory  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_xdist_auto_num_workers() -> int:
    """A worker more than cores: many tests wait for processes of their own."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests come first: one that is left for the end keeps a single worker busy."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """What has been imported by now stays."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests that build the same network compile it once, whichever worker they run in."""
    root = tmp_path_factory.getbasetemp()
    shared = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    jax.config.update("jax_compilation_cache_dir", str(shared / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session", autouse=True)
def memory_as_it_is() -> Iterator[None]:
    """Malloc's settings hold for a process, and other tests measure its memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "keep", lambda: False)
        patch.setattr(memory, "give_back", lambda: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def compiled_programs() -> Iterator[None]:
    """Each module drops its programs: XLA maps memory for each, and the system limits how often a process may."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def registered_methods() -> Iterator[None]:
    """Methods that a module's tests register are gone after it."""
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.fixture(scope="session")
def reference_data() -> pathlib.Path:
    """Folder of public reference data (protocol lists, weights, photographs) that is not part of the project."""
    default = pathlib.Path(__file__).parents[2] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("JAX_MSPAC_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}; JAX_MSPAC_TEST_DATA can name another folder")
    return folder
