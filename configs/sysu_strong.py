"""SYSU-MM01 with a strong recipe: the method of configs/sysu.py with what gained most on photographs.

    python -m jax_mspac.main --config configs/sysu_strong.py --config.data.source=/path/to/SYSU-MM01

Needs: as configs/sysu.py.
Takes: not measured yet on the real data set; a step costs what one of configs/sysu.py does.
Expect: nothing is claimed yet, as this has not been trained on the real data set.

Identity loss for each of six stripes in place of the whole body, AdamW with one rate for all layers along a cosine,
random erasing, channel exchange of the visible images, the average over horizontal flips at test. docs/recipes.md tells
how these were chosen, with a ResNet-18 and short trainings on photographs.
"""

from configs import sysu
from jax_mspac.config import Config


def get_config() -> Config:
    config = sysu.get_config()
    config.loss.identity = "part"
    config.augment.channel_exchange = 0.5
    config.augment.erasing = 0.5
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 5e-4
    config.optimizer.backbone_factor = 1.0
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = "cosine"
    config.eval.flip = True
    return config
