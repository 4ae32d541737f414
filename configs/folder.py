"""Your own photographs: ROOT/{rgb,ir}/<identity>/*, with a camera level if there are several cameras.

    python -m jax_mspac.main --config configs/folder.py --config.data.source=ROOT

Without an infrared camera, --config.data.simulate_infrared=True derives infrared images from photographs; every
report then says so. Pretrained weights help most: --config.model.pretrained=FILE.safetensors.
"""

from ml_collections import ConfigDict

from jax_mspac.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.data.name = "folder"
    config.data.rgb = "rgb"  # sub-folder of the visible images
    config.data.ir = "ir"  # sub-folder of the infrared images
    config.data.simulate_infrared = False
    config.data.test_identities = ""  # file with one identity per line; "": a random share
    config.data.test_fraction = 0.4
    config.data.val_fraction = 0.0
    config.data.seed = 0  # of the random share

    config.augment.pad = 6
    config.loss.triplet.kind = "batch_hard"
    config.optimizer.learning_rate = 0.1
    config.optimizer.backbone_factor = 0.2

    config.train.steps = 300
    config.checkpoint.every = 100
    config.eval.every = 0
    config.eval.floors = True
    config.eval.exclude_same_camera = False
    return config
