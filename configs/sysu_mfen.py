"""SYSU-MM01 with a reading of MFEN: ResNet-50 from ImageNet weights, 384x192, 8 x (4 + 4) images.

    python -m jax_mspac.main --config configs/sysu_mfen.py --config.data.source=/path/to/SYSU-MM01

Needs: as configs/sysu.py.
Takes: not measured yet on the real data set.
Expect: a paper that cites MFEN gives it 80.9 % rank-1 and 76.6 % mAP (all-search, single-shot). There is no public
code: docs/comparison.md lists what was chosen. This implementation has not been trained on the real data set yet.
"""

from ml_collections import ConfigDict

from configs import sysu


def get_config() -> ConfigDict:
    config = sysu.get_config()
    config.method = "mfen"
    config.data.height, config.data.width = 384, 192
    config.train.steps = 83_500  # 120 epochs of the RGB images
    return config
