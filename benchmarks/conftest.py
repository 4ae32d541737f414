"""The tests of the benchmarks see as many devices as those of the package."""

import jax

jax.config.update("jax_num_cpu_devices", 4)
