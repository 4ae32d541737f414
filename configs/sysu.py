"""SYSU-MM01: the full method of the slides. ResNet-50 from ImageNet weights, 288x144, parts (6, 3, 1), gid + MeCen.

    python -m jax_mspac.main --config configs/sysu.py --config.data.source=/path/to/SYSU-MM01

Needs: the data set (signed agreement with its authors: github.com/wuancong/SYSU-MM01) and an accelerator. The weights
are downloaded once; without a network give a file with --config.model.pretrained=/path/resnet50.safetensors.
Takes: not measured yet on the real data set.
Expect: the slides report 46.6 % rank-1 and 47.3 % mAP (all-search, single-shot). This implementation has not been
trained on the real data set yet.

The slides give no recipe. This one is AGW's: 8 identities x (4 + 4) images, SGD with warm-up, a tenth of the learning
rate for the backbone. The attention is the bounded reading `mask`; --config.model.attention_form=literal is the slides'
formula. Likewise --config.loss.mecen.reduction=sum.
"""

from ml_collections import ConfigDict

from jax_mspac.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.data.name = "sysu_mm01"
    config.data.height, config.data.width = 288, 144
    config.data.train_splits = ("train", "val")  # the usual 395 identities

    config.augment.pad = 10
    config.augment.erasing = 0.0

    config.model.backbone = "resnet50"
    config.model.pretrained = "hf://timm/resnet50.tv_in1k"

    config.optimizer.learning_rate = 0.1
    config.optimizer.backbone_factor = 0.1
    config.optimizer.schedule = "step"
    config.optimizer.warmup = 0.12  # 10, 20 and 50 of 81 epochs
    config.optimizer.milestones = (0.25, 0.62)

    config.train.steps = 56_000  # 81 epochs of the RGB images
    config.train.log_every = 50
    config.checkpoint.every = 1000
    # There is no validation split left, and test identities must not choose the model: the last step counts.
    config.eval.every = 0
    config.eval.monitor_split = "test"  # if you set eval.every all the same: it is watched, and chooses no checkpoint
    config.eval.modes = ("all", "indoor")
    config.eval.galleries = ("seeded",)  # or ("official", "seeded")
    config.eval.sysu_lists = ""  # folder with rand_perm_cam.mat in it or in its exp folder, for "official"
    return config
