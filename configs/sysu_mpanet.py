"""SYSU-MM01 with MPANet at the settings of its public code: ResNet-50 from ImageNet weights, 384x128, 16 x (4 + 4).

    python -m jax_mspac.main --config configs/sysu_mpanet.py --config.data.source=/path/to/SYSU-MM01

Needs: as configs/sysu.py.
Takes: not measured yet on the real data set.
Expect: RLE's paper gives it 70.6 % rank-1 and 68.2 % mAP (all-search, single-shot), in the official galleries
(--config.eval.sysu_lists), of a checkpoint chosen by the test set. This implementation has not been trained on the
real data set yet.
"""

from ml_collections import ConfigDict

from configs import sysu


def get_config() -> ConfigDict:
    config = sysu.get_config()
    config.method = "mpanet"
    config.data.height, config.data.width = 384, 128
    config.train.steps = 26_040  # 140 epochs of the infrared images
    return config
