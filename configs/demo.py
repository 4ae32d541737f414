"""The demo: MSPAC-MeCen learns to match drawn people between RGB and infrared cameras. Needs no data.

    python -m jax_mspac.main --config configs/demo.py

Draws the data set the first time, trains a narrow ResNet-18 from scratch, and evaluates on identities that
it has not seen.
"""

from ml_collections import ConfigDict

from jax_mspac.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.data.name = "synthetic"
    config.data.height, config.data.width = 96, 48
    config.data.train_identities, config.data.val_identities, config.data.test_identities = 120, 24, 60
    config.data.images_per_camera = 4
    config.model.width = 32
    config.train.steps = 400
    config.checkpoint.every = 100
    config.eval.every = 200
    config.eval.floors = True
    return config
