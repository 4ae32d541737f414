"""AGW (Ye et al., arXiv 2001.04193): own stems, non-local blocks, GeM, BNNeck, weighted regularized triplet loss.

As in the public code, non-local blocks have one inner channel, and GeM's exponent is fixed. The weights of the triplet
are the paper's: `loss.weighted_regularized.epsilon=1e-6` is what the code adds.
"""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SETTINGS = {
    **learned.IDENTITY_ALONE,
    "model.shared_from": 1,
    "model.nonlocal_blocks": True,
    "model.nonlocal_channels": 1,
    "model.pooling": "gem",
    "model.gem_learned": False,
    "loss.weighted_regularized.weight": 1.0,
}
RECIPE = {**learned.AGW_RECIPE, "batch.identities": 8}
SYSTEM = System(title="AGW", build=learned.build, settings=SETTINGS, images=(4, 4), recipe=RECIPE)
