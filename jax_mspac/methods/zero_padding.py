"""Deep zero-padding (Wu et al., ICCV 2017): a channel per modality into one network, and the identity loss alone."""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SYSTEM = System(
    title="Zero-Padding",
    build=learned.build,
    settings={**learned.IDENTITY_ALONE, "model.shared_from": 0, "model.input_form": "zero_padding"},
    recipe=learned.ZERO_PADDING_RECIPE,
)
