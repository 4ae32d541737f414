"""The parts of the report page: data in, figure out. `jax_mspac.report` puts them together."""
