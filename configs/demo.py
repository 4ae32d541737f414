"""The demo: MSPAC-MeCen learns to match synthetic people between RGB and infrared cameras. Needs no data.

    python -m jax_mspac.main --config configs/demo.py

The first run draws 284 people. A narrow ResNet-18 is trained from scratch on 200 of them and tested on 60 others.
Without ImageNet weights and hours on a GPU, a few things differ from the paper's recipe: AdamW, visible images turned
gray (color separates people in training, but does not help across modalities), one stem for both modalities, and
features averaged over horizontal flips.

Takes: under 3 minutes of training on two CPU cores, 4 with the installation and the drawing of the people.
Expect: infrared -> RGB rank-1 about 21 % and mAP about 23 %; chance is 1.5 % and 4.3 %, HOG 6.6 % and 8.8 %.
"""

from jax_mspac.config import Config, default_config


def get_config() -> Config:
    config = default_config("synthetic")
    config.recipe = "config"  # whatever the method, minutes on a CPU need the optimizer below
    # What follows gives way to the settings of another system: --config.method=agw.
    with config.giving_way():
        config.data.train_identities, config.data.val_identities, config.data.test_identities = 200, 24, 60
        config.data.images_per_camera = 4

        config.batch.identities, config.batch.visible, config.batch.infrared = 8, 2, 2
        config.augment.erasing = 0.0
        config.augment.channel_exchange = 0.5
        config.augment.random_gray = 1.0

        config.model.width = 16
        config.model.shared_from = 0

        config.optimizer.name = "adamw"
        config.optimizer.learning_rate = 0.002
        config.optimizer.centers_factor = 1.0
        config.optimizer.weight_decay = 0.01

        config.train.steps = 1600
        config.train.log_every = 20
        config.checkpoint.every = 400
        config.eval.every = 400
        config.eval.flip = True
        config.eval.baselines = True
    return config
