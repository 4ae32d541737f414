"""Settings of the whole test run: several CPU devices, strict shapes, and optional reference data."""

import os
import pathlib

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def reference_data() -> pathlib.Path:
    """Folder of public reference data (protocol lists, weights, photographs) that is not part of the project."""
    default = pathlib.Path(__file__).parents[2] / "shared" / "data"
    folder = pathlib.Path(os.environ.get("JAX_MSPAC_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}; JAX_MSPAC_TEST_DATA can name another folder")
    return folder
