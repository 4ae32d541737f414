"""The study size: the demo's model and data in shorter runs, for tables of many runs on two CPU cores.

    python -m jax_mspac.reproduce --table attention --config configs/study.py
    python -m jax_mspac.main --config configs/study.py

Unlike in the demo, visible images keep their colors (but for the channel exchange): the gap between the modalities is
what the method is about. Half as many steps.

Takes: one and a half minutes a run on two CPU cores.
"""

from configs import demo
from jax_mspac.config import Config


def get_config() -> Config:
    config = demo.get_config()
    with config.giving_way():
        config.augment.random_gray = 0.0
        config.train.steps = 800
        config.checkpoint.every = 800
    return config
