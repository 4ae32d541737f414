"""SYSU-MM01 with CAJ+ at the settings of its public code: ResNet-50 from ImageNet weights, 288x144, 8 x (4 + 4) images.

    python -m jax_mspac.main --config configs/sysu_caj_plus.py --config.data.source=/path/to/SYSU-MM01

Needs: as configs/sysu.py.
Takes: not measured yet on the real data set; each visible image is seen twice in a step.
Expect: RLE's paper gives it 71.5 % rank-1 and 68.2 % mAP (all-search, single-shot), of a checkpoint chosen by the test
set, images mirrored. This implementation has not been trained on the real data set yet.
"""

from ml_collections import ConfigDict

from configs import sysu


def get_config() -> ConfigDict:
    config = sysu.get_config()
    config.method = "caj_plus"
    config.train.steps = 69_600  # 100 epochs of the RGB images
    return config
