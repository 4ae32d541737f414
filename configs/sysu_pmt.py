"""SYSU-MM01 with PMT at the settings of its public code: ViT-B/16 from ImageNet weights, 256x128, 8 x (4 + 4) images.

    python -m jax_mspac.main --config configs/sysu_pmt.py --config.data.source=/path/to/SYSU-MM01

Needs: the data set, as configs/sysu.py, and an accelerator. The weights are downloaded once; without a network give a
file with the names of timm: --config.model.pretrained=/path/vit_base_patch16_224.safetensors.
Takes: not measured yet on the real data set. With little memory: --config.model.remat=True and
--config.model.dtype=bfloat16.
Expect: its README reports 67.5 % rank-1 and 65.0 % mAP (all-search, single-shot), of a checkpoint chosen by the test
set. This implementation has not been trained on the real data set yet.
"""

from configs import sysu
from jax_mspac.config import Config


def get_config() -> Config:
    config = sysu.get_config()
    config.method = "pmt"
    config.data.height, config.data.width = 256, 128
    config.model.parts = ()  # 256 pixels are no multiple of the stripes of the method that this config comes from
    config.model.pretrained = "hf://timm/vit_base_patch16_224.orig_in21k_ft_in1k"
    config.train.steps = 16_704  # 24 epochs of the RGB images
    return config
