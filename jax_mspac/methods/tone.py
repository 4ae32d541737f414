"""TONE (Ye et al., AAAI 2018): two networks and a shared linear layer; identity and contrastive loss.

The loss compares features after a ReLU. The original's network is AlexNet with dropout; its batch holds 64 images of
each modality, half of them in pairs.
"""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SETTINGS = {
    **learned.IDENTITY_ALONE,
    "model.shared_from": 5,
    "model.embedding_dim": 2048,
    "model.neck": "relu",
    "loss.contrastive.weight": 0.2,
    "loss.contrastive.feature": "after_neck",
}
SYSTEM = System(
    title="TONE",
    build=learned.build,
    settings=SETTINGS,
    images=(1, 1),
    recipe={**learned.ALEXNET_RECIPE, "batch.identities": 64},
)
