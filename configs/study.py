"""The study size: the demo's model and data in shorter runs, for tables of many runs on two CPU cores.

    python -m jax_mspac.reproduce --table attention --config configs/study.py
    python -m jax_mspac.main --config configs/study.py

Takes: about a minute a run on two CPU cores.
"""

from ml_collections import ConfigDict

from configs import demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.train.steps = 600
    config.checkpoint.every = 600
    return config
