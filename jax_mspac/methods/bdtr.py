"""BDTR (Ye et al., IJCAI 2018): two networks and a shared linear layer; identity and dual-constrained ranking loss.

The loss compares features after a ReLU. The original's network is AlexNet with dropout.
"""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SETTINGS = {
    **learned.IDENTITY_ALONE,
    "model.shared_from": 5,
    "model.embedding_dim": 1024,
    "model.neck": "relu",
    "loss.dual_constrained.weight": 1.0,
    "loss.dual_constrained.feature": "after_neck",
}
SYSTEM = System(
    title="BDTR",
    build=learned.build,
    settings=SETTINGS,
    images=(1, 1),
    recipe={**learned.ALEXNET_RECIPE, "batch.identities": 64},
)
