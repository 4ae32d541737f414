"""RegDB, all ten trials: the full method of the slides. ResNet-50 from ImageNet weights, 288x144, parts (6, 3, 1).

    python -m jax_mspac.main --config configs/regdb.py --config.data.source=/path/to/RegDB

Needs: the data set (signed agreement with its authors: dm.dongguk.edu/link.html) and an accelerator. The weights are
downloaded once; without a network give a file with --config.model.pretrained=/path/resnet50.safetensors.
Takes: not measured yet on the real data set.
Expect: nothing is claimed yet, as this has not been trained on the real data set.

Published numbers are means over ten models, one per trial. The command trains them one after the other, in folders
trial_01 to trial_10 of the --workdir, and averages the finished ones. The same command resumes where it stopped.
--config.data.trial=3 trains that one alone; with --workdir=runs/regdb/trial_03 the average will count it.

The recipe is that of configs/sysu.py, with as many epochs.
"""

from jax_mspac.config import Config, full_size_config


def get_config() -> Config:
    config = full_size_config("regdb")
    config.data.trial = 0  # all ten, and their mean
    config.train.steps = 5_200  # 81 epochs of the visible images
    config.checkpoint.every = 500
    config.eval.direction = "visible->infrared"  # the one papers name first
    return config
