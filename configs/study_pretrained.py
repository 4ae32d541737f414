"""The study size with weights pretrained on other people, as the published systems start from ImageNet weights.

    python -m jax_mspac.main --config configs/start.py --workdir runs/start
    python -m jax_mspac.reproduce --table comparison --config configs/study_pretrained.py
    python -m jax_mspac.main --config configs/study_pretrained.py

From random weights, two networks that share few layers do not find common features in short runs, and losses that
compare features have nothing useful to compare. There are fewer people and steps than in configs/study.py, because only
the other modality is new.

Needs: the workdir runs/start of the first command, or another: --config.model.pretrained=WORKDIR.
Takes: 45 to 90 seconds a run on two CPU cores for most systems, 7 to 10 minutes for d2rl and aligngan.
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
