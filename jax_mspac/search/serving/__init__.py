"""An index as a page: `python -m jax_mspac.search serve`. `server.py` runs it, `app.py` answers, `guard.py` refuses."""
