"""SYSU-MM01 with AlignGAN at the settings of its public code: ResNet-50 from ImageNet weights, 18 x (4 + 4) images.

    python -m jax_mspac.main --config configs/sysu_aligngan.py --config.data.source=/path/to/SYSU-MM01

Images of 128x128 pixels are translated, and resized to 384x192 for the encoder. A step takes 18 identities for the
encoder and 4 of these for the generators.

Needs: as configs/sysu.py, and 33 GB of memory for a step as compiled for a CPU, 17 GB with --config.model.remat=True.
Takes: not measured yet on the real data set.
Expect: its paper reports 42.4 % rank-1 and 40.7 % mAP (all-search, single-shot). This implementation has not been
trained on the real data set yet.
"""

from ml_collections import ConfigDict

from configs import sysu


def get_config() -> ConfigDict:
    config = sysu.get_config()
    config.method = "aligngan"
    config.data.height = config.data.width = 128
    config.aligngan.height, config.aligngan.width = 384, 192
    config.batch.identities = 18
    config.eval.flip = True
    config.train.steps = 25_100  # 5,000 of the encoder, 10,000 of the generators, 10,100 of all
    return config
