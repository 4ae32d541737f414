"""Hetero-center loss (Zhu et al., arXiv 1910.09830): two networks, six stripes, identity and hetero-center loss.

The original adds up the losses of its six stripes, and half of the hetero-center losses of its four identities and six
stripes, with a margin of 0; ours are means: weights 6 and 0.5 x 4 x 6 = 12 are the same.
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
        "model.neck": "affine",
        "model.unit_parts": True,
        "loss.identity": "part",
        "loss.identity_weight": 6.0,
        "loss.classifier_bias": True,
        "loss.classifier_slope": 0.1,
        "loss.hetero_center.weight": 12.0,
        "loss.hetero_center.margin": 0.0,
    },
    images=(4, 4),  # 8 + 8 in the original
    recipe={
        **learned.OF_AGW_S_FAMILY,
        "augment.pad": 0,
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
