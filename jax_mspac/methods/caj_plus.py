"""CAJ+ (Ye et al., TPAMI 2023): CAJ, and the channel-exchanged view of an image as the target of the image.

As in the public code for SYSU-MM01, visible images are erased a little more often than infrared ones, and the first
view of a visible image may be gray. What `methods.caj` says of the triplet holds here too.
"""

from jax_mspac.methods import caj, learned
from jax_mspac.methods.base import System

_AUGMENTATION = {"augment.erasing": 0.6, "augment.random_gray": 0.1}
SYSTEM = System(
    title="CAJ+",
    build=learned.build,
    settings={
        **caj.SYSTEM.settings,
        **_AUGMENTATION,
        "augment.infrared_erasing_factor": 5 / 6,
        "augment.infrared_exchange": 0.9,
        "loss.view_consistency.weight": 1.0,
    },
    images=caj.SYSTEM.images,
    layout=caj.SYSTEM.layout,
    recipe={**caj.SYSTEM.recipe, **_AUGMENTATION},
)
