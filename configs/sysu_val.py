"""SYSU-MM01 with validation: configs/sysu.py trained on 296 identities; the 99 of the split val choose the checkpoint.

    python -m jax_mspac.main --config configs/sysu_val.py --config.data.source=/path/to/SYSU-MM01

For comparing methods and settings: val is searched every 2,000 steps (camera 3 searches 4 and 5, the only cameras that
filmed it, in ten seeded galleries), and the checkpoint with the best val/mAP is kept beside the latest ones. The table
at the end is of the last step, on the test split, in the modes all and indoor;

    python -m jax_mspac.main --config configs/sysu_val.py --mode evaluate --config.data.source=/path/to/SYSU-MM01

gives that of the best one. Published figures come from training on all 395 identities: configs/sysu.py.

Needs: as configs/sysu.py, the data set and an accelerator.
Takes: not measured yet on the real data set.
Expect: nothing is claimed yet, as this has not been trained on the real data set. A quarter fewer identities than in
configs/sysu.py cost accuracy.
"""

from configs import sysu
from jax_mspac.config import Config


def get_config() -> Config:
    config = sysu.get_config()
    config.data.train_splits = ("train",)
    config.train.steps = 51_000  # 81 epochs of the RGB images
    config.eval.every = 2_000
    config.eval.monitor_split = "val"
    config.eval.checkpoint = "best"
    return config
