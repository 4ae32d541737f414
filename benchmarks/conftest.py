"""The tests of the benchmarks see as many devices as those of the package, and compile as they do."""

import gc
import os

gc.set_threshold(20_000, 20, 20)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The rehearsal runs most of its programs twice, and several scripts build the same networks."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.getbasetemp() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
