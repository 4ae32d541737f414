"""SYSU-MM01: the full method of the slides. ResNet-50 from ImageNet weights, 288x144, parts (6, 3, 1).

python -m jax_mspac.main --config configs/sysu.py --config.data.source=/path/to/SYSU-MM01
"""

from ml_collections import ConfigDict

from jax_mspac.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.data.name = "sysu_mm01"
    config.data.height, config.data.width = 288, 144
    config.data.train_splits = ("train", "val")  # the usual 395 identities

    config.augment.pad = 10
    config.augment.erasing = 0.0

    config.model.backbone = "resnet50"
    config.model.pretrained = "hf://timm/resnet50.tv_in1k"

    config.optimizer.learning_rate = 0.1
    config.optimizer.backbone_factor = 0.1
    config.optimizer.schedule = "step"

    config.train.steps = 43_000
    config.train.log_every = 50
    config.checkpoint.every = 1000
    # There is no validation split left, and test identities must not choose the model: the last step counts.
    config.eval.every = 0
    config.eval.modes = ("all", "indoor")
    config.eval.galleries = ("seeded",)
    return config
