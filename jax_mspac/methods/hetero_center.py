"""Hetero-center loss (Zhu et al., arXiv 1910.09830): two networks, six stripes, identity and hetero-center loss.

The original adds up the losses of its six stripes, and half of the hetero-center losses of its four identities and six
stripes, with a margin of 0; ours are means: weights 6 and 0.5 x 4 x 6 = 12 are the same.
"""

from typing import Any

import numpy as np

from jax_mspac.methods import learned
from jax_mspac.methods.base import System
from jax_mspac.models import layouts
from jax_mspac.models.layouts import LINEAR, Row


def _settings(tensors: layouts.Tensors) -> dict[str, Any]:
    return {**layouts.resnet_settings(tensors), "model.embedding_dim": len(tensors["feature1.feat_block.0.bias"])}


def _more(tensors: layouts.Tensors) -> dict[str, np.ndarray]:
    """The ImageNet classifiers that both networks keep."""
    channels = tensors["feature1.feat_block.0.weight"].shape[1]
    shapes = {"weight": (1000, channels), "bias": (1000,)}
    return {f"{p}fc.{leaf}": np.zeros(s, np.float32) for p in _STREAMS.values() for leaf, s in shapes.items()}


_STREAMS = {"visible": "visible_net.visible.", "infrared": "thermal_net.thermal."}
LAYOUT = layouts.Layout(
    streams=_STREAMS,
    rows=(
        Row(r"embedder/embedding_(?P<part>\d+)/kernel", "feature{number}.feat_block.0.weight", LINEAR),
        *layouts.norm("embedder/neck", "feature{number}.feat_block.1", minus="feature{number}.feat_block.0.bias"),
        Row("heads/classifier", "classifier{number}.classifier.1.weight", LINEAR),
        Row("heads/classifier_bias", "classifier{number}.classifier.1.bias"),
    ),
    first=("classifier1.classifier.1.weight", "feature1.feat_block.0.bias"),
    settings=_settings,
    unused=r".*\.fc\.(weight|bias)",
    # With dropout the linear layer is one later.
    older=(r"^(classifier\d\.classifier)\.2\.", r"\1.1."),
    more=_more,
)
SYSTEM = System(
    title="Hetero-center",
    build=learned.build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 5,
        "model.embedding_dim": 512,  # per stripe
        "model.embedding_start": "he_fan_out",
        "model.neck": "affine",
        "model.unit_parts": True,
        "loss.identity": "part",
        "loss.identity_weight": 6.0,
        "loss.classifier_bias": True,
        "loss.classifier_slope": 0.1,
        "loss.hetero_center.weight": 12.0,
        "loss.hetero_center.margin": 0.0,
    },
    layout=LAYOUT,
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
