"""SYSU-MM01: the full method of the slides. ResNet-50 from ImageNet weights, 288x144, parts (6, 3, 1), gid + MeCen.

    python -m jax_mspac.main --config configs/sysu.py --config.data.source=/path/to/SYSU-MM01

Needs: the data set (signed agreement with its authors: github.com/wuancong/SYSU-MM01) and an accelerator. The weights
are downloaded once; without a network give a file with --config.model.pretrained=/path/resnet50.safetensors.
Takes: not measured yet on the real data set.
Expect: the slides report 46.6 % rank-1 and 47.3 % mAP (all-search, single-shot). This implementation has not been
trained on the real data set yet.

The slides give no recipe. This one is AGW's: 8 identities x (4 + 4) images, SGD with warm-up, a tenth of the learning
rate for the backbone. The attention is the bounded reading `mask`; --config.model.attention_form=literal is the slides'
formula. Likewise --config.loss.mecen.reduction=sum. MeCen sees the feature before the neck, the better place in our
measurements; --config.loss.mecen.feature=after_neck is the other.
"""

from jax_mspac.config import Config, full_size_config


def get_config() -> Config:
    config = full_size_config("sysu_mm01")
    config.data.train_splits = ("train", "val")  # the usual 395 identities
    config.train.steps = 56_000  # 81 epochs of the RGB images
    return config
