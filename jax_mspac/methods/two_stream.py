"""Two-stream (Wu et al., ICCV 2017): shallow layers per modality, shared deep ones, and the identity loss alone.

Where the original cuts its network could not be verified; the stem and layer 1 per modality are our reading.
"""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SYSTEM = System(
    title="Two-stream",
    build=learned.build,
    settings={**learned.IDENTITY_ALONE, "model.shared_from": 2},
    recipe=learned.ZERO_PADDING_RECIPE,
)
