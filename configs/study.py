"""The study size: the demo's model and data in shorter runs, for tables of many runs on two CPU cores.

    python -m jax_mspac.reproduce --table attention --config configs/study.py
    python -m jax_mspac.main --config configs/study.py

Unlike in the demo, visible images keep their colours (but for the channel exchange): the gap between the modalities is
what the method is about. Half as many steps, and a lighter centre loss, which short runs from random weights need; its
margin is wider, because their features do not come as close to the centres as 0.3.

Takes: one and a half minutes a run on two CPU cores.
"""

from ml_collections import ConfigDict

from configs import demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.augment.random_grey = 0.0
    config.loss.mecen.weight = 0.2
    config.loss.mecen.margin = 1.0
    config.train.steps = 800
    config.checkpoint.every = 800
    return config
