"""SYSU-MM01 with D2RL: translators of UNIT's size, a four-channel ResNet-50 from ImageNet weights, 288x144 images.

    python -m jax_mspac.main --config configs/sysu_d2rl.py --config.data.source=/path/to/SYSU-MM01

Needs: as configs/sysu.py, and 70 GB of memory for a step, 8.7 GB an identity: --config.batch.identities=4 for 40 GB.
Takes: not measured yet on the real data set; the translators are much larger than the network.
Expect: the slides report 28.9 % rank-1 and 29.2 % mAP (all-search, single-shot). There is no public code, and this is
a reading of the paper, see docs/comparison.md. It has not been trained on the real data set yet.
"""

from ml_collections import ConfigDict

from configs import sysu


def get_config() -> ConfigDict:
    config = sysu.get_config()
    config.method = "d2rl"
    config.model.remat = True
    return config
