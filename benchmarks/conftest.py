"""The tests of the benchmarks see as many devices as those of the package, and compile as they do."""

import os

os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)
