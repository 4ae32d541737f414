"""SYSU-MM01 with a strong recipe: the method of configs/sysu.py with what gains most in the literature.

    python -m jax_mspac.main --config configs/sysu_strong.py --config.data.source=/path/to/SYSU-MM01

Needs: as configs/sysu.py.
Takes: not measured yet on the real data set; a step costs what one of configs/sysu.py does.
Expect: nothing is claimed yet, as this has not been trained on the real data set.

GeM pooling with an exponent of 3 and a weighted regularized triplet loss beside MeCen (AGW, arXiv 2001.04193), random
erasing and channel exchange of the visible images (CAJ, ICCV 2021), the average over horizontal flips at test. Shared
trunk, last stride 1, BatchNorm neck and warm-up are in configs/sysu.py already.
"""

from configs import sysu
from jax_mspac.config import Config


def get_config() -> Config:
    config = sysu.get_config()
    config.augment.erasing = 0.5
    config.augment.channel_exchange = 0.5
    config.model.pooling, config.model.gem_learned = "gem", False
    config.loss.weighted_regularized.weight = 1.0
    config.eval.flip = True
    return config
