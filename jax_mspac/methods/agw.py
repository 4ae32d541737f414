"""AGW (Ye et al., arXiv 2001.04193): own stems, non-local blocks, GeM, BNNeck, weighted regularized triplet loss.

GeM's exponent is learned here and 3 in the original.
"""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SETTINGS = {
    **learned.IDENTITY_ALONE,
    "model.shared_from": 1,
    "model.nonlocal_blocks": True,
    "model.pooling": "gem",
    "loss.weighted_regularized.weight": 1.0,
}
RECIPE = {**learned.AGW_RECIPE, "batch.identities": 8}
SYSTEM = System(title="AGW", build=learned.build, settings=SETTINGS, images=(4, 4), recipe=RECIPE)
