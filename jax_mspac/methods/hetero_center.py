"""Hetero-center loss (Zhu et al., arXiv 1910.09830): two networks, six stripes, identity and hetero-center loss.

The original adds up the losses of its four identities and six stripes, ours are means: weight 2 is its 0.5.
"""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SYSTEM = System(
    title="Hetero-center",
    build=learned.build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 5,
        "model.embedding_dim": 512,  # per stripe
        "loss.identity": "part",
        "loss.hetero_center.weight": 2.0,
    },
    images=(4, 4),  # 8 + 8 in the original
    recipe={
        **learned.SGD,
        "optimizer.learning_rate": 0.01,
        "optimizer.backbone_factor": 0.1,
        "optimizer.schedule": "step",
        "optimizer.warmup": 0.0,
        "optimizer.milestones": (0.5,),
        "batch.identities": 4,
        "batch.visible": 8,
        "batch.infrared": 8,
    },
)
