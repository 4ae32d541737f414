"""SYSU-MM01 with RLE at the settings of its public code: ResNet-50 from ImageNet weights, 384x192, 6 x (4 + 4) images.

    python -m jax_mspac.main --config configs/sysu_rle.py --config.data.source=/path/to/SYSU-MM01

Needs: as configs/sysu.py.
Takes: not measured yet on the real data set.
Expect: its paper reports 75.4 % rank-1 and 72.4 % mAP (all-search, single-shot), with a checkpoint selected on the test
set, the sum of the cosines before and after the neck, and mirrored images. This implementation has not been trained on
the real data set yet.
"""

from ml_collections import ConfigDict

from configs import sysu


def get_config() -> ConfigDict:
    config = sysu.get_config()
    config.method = "rle"
    config.data.height, config.data.width = 384, 192
    config.train.steps = 140_128  # 151 epochs of the RGB images
    return config
