"""An index of embedded images: add, query, remove. The command is `python -m jax_mspac.search`."""
