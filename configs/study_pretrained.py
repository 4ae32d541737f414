"""The study size from weights that have seen people before, as the published systems start from ImageNet's.

    python -m jax_mspac.main --config configs/start.py --workdir runs/start
    python -m jax_mspac.reproduce --table comparison --config configs/study_pretrained.py
    python -m jax_mspac.main --config configs/study_pretrained.py

Two networks that share little find no common features from random weights in short runs, and losses that compare
features need some to compare. Fewer people and steps than in configs/study.py: what is learned is the other modality.

Needs: the workdir runs/start of the first command, or another: --config.model.pretrained=WORKDIR.
Takes: 45 to 90 seconds a run on two CPU cores, by the system.
"""

from configs import study
from jax_mspac.config import Config


def get_config() -> Config:
    config = study.get_config()
    with config.giving_way():
        config.data.train_identities = 60
        config.model.pretrained = "runs/start"
        config.train.steps = 300
        config.checkpoint.every = 300
    return config
