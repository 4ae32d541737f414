"""Hetero-center triplet loss (Liu et al., arXiv 2008.06223): shared from layer 2 on, six GeM stripes.

The triplet sees what is classified: stripes after batch normalization and ReLU. The original adds up the losses of its
stripes, ours are means: weight 6 makes them sums. The settings are those for SYSU-MM01.
"""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SYSTEM = System(
    title="Hetero-center triplet",
    build=learned.build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 2,
        "model.embedding_dim": 256,  # per stripe
        "model.neck": "relu",
        "model.pooling": "gem",
        "model.gem_learned": False,
        "loss.identity": "part",
        "loss.identity_weight": 6.0,
        "loss.classifier_bias": True,
        "loss.hetero_center_triplet.weight": 1.0,
        "loss.hetero_center_triplet.feature": "after_neck",
        "loss.hetero_center_triplet.stripes": 6.0,
    },
    images=(4, 4),
    recipe={
        **learned.AGW_RECIPE,
        "optimizer.warmup": 0.16,
        "optimizer.milestones": (0.33, 0.82),
        "batch.identities": 6,
        "batch.visible": 8,
        "batch.infrared": 8,
    },
)
