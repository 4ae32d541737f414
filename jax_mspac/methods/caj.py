"""CAJ (Ye et al., ICCV 2021): AGW with channel-exchanged views, random erasing and a triplet of squared differences.

As in the public code, channels are exchanged after normalization, those of infrared images too. Its triplet is
`loss.weighted_regularized.epsilon=1e-6`, `.clip=88` and `.steepest=0`, which loses its gradient where features are far
apart. The bare square has too much of it there, so ours goes on as a line.
"""

from jax_mspac.methods import agw, learned
from jax_mspac.methods.base import System

SYSTEM = System(
    title="CAJ",
    build=learned.build,
    settings={
        **agw.SETTINGS,
        "loss.weighted_regularized.squared": True,
        "loss.weighted_regularized.steepest": 1.0,
        "augment.erasing": 0.5,
        "augment.channel_augmentation": True,
        "augment.exchange_normalized": True,
        "augment.infrared_exchange": 7 / 8,
        "eval.flip": True,
    },
    images=(4, 4),
    layout=agw.LAYOUT,
    recipe={**agw.RECIPE, "augment.erasing": 0.5, "optimizer.warmup": 0.1, "optimizer.milestones": (0.2, 0.5)},
)
