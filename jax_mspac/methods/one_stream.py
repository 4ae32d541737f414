"""One-stream (Wu et al., ICCV 2017): one network for both modalities, and the identity loss alone."""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SYSTEM = System(
    title="One-stream",
    build=learned.build,
    settings={**learned.IDENTITY_ALONE, "model.shared_from": 0},
    recipe=learned.ZERO_PADDING_RECIPE,
)
