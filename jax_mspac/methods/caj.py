"""CAJ (Ye et al., ICCV 2021): AGW with channel-exchanged views, random erasing and a triplet of squared differences."""

from jax_mspac.methods import agw, learned
from jax_mspac.methods.base import System

SYSTEM = System(
    title="CAJ",
    build=learned.build,
    settings={
        **agw.SETTINGS,
        "loss.weighted_regularized.squared": True,
        "augment.erasing": 0.5,
        "augment.channel_augmentation": True,
        "eval.flip": True,
    },
    images=(4, 4),
    layout=agw.LAYOUT,
    recipe={**agw.RECIPE, "optimizer.warmup": 0.1, "optimizer.milestones": (0.2, 0.5)},
)
