"""SYSU-MM01 with DEEN at the settings of its public code: ResNet-50 from ImageNet weights, 384x144, 6 x (4 + 4) images.

    python -m jax_mspac.main --config configs/sysu_deen.py --config.data.source=/path/to/SYSU-MM01

Needs: as configs/sysu.py.
Takes: not measured yet on the real data set; layer 4 sees three maps of each image.
Expect: its paper reports 74.7 % rank-1 and 71.8 % mAP (all-search, single-shot), with a checkpoint selected on the test
set, the sum of the cosines of six features, and mirrored images. This implementation has not been trained on the real
data set yet.
"""

from ml_collections import ConfigDict

from configs import sysu


def get_config() -> ConfigDict:
    config = sysu.get_config()
    config.method = "deen"
    config.data.height = 384
    config.train.steps = 140_128  # 151 epochs of the RGB images
    return config
