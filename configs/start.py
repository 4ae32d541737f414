"""Initial weights for configs/study_pretrained.py: a network trained on visible images alone.

    python -m jax_mspac.main --config configs/start.py --workdir runs/start

It takes the role of ImageNet weights: a plain network, trained on many images, none of them infrared and none of the
people of the study. The demo's renderer draws 200 other people for it (data.seed).

Takes: 4 minutes on two CPU cores, the drawing of the people included.
Expect: infrared -> RGB rank-1 about 11 % and mAP about 16 %, below the demo; the table is not what this run is for.
"""

from configs import study
from jax_mspac.config import Config


def get_config() -> Config:
    config = study.get_config()
    with config.giving_way():
        config.data.seed = 1
        config.batch.visible, config.batch.infrared = 4, 0
        config.model.parts = ()
        config.loss.mecen.weight = 0.0
        config.train.steps = 1600
        config.eval.every = 0
    return config
