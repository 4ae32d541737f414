"""Hetero-center triplet loss (Liu et al., arXiv 2008.06223): shared from layer 2 on, six GeM stripes.

The triplet sees what is classified: stripes after batch normalization and ReLU. The original adds up the losses of its
stripes, ours are means: weight 6 makes them sums. The settings are those for SYSU-MM01.
"""

import re
from typing import Any

from jax_mspac.methods import agw, learned
from jax_mspac.methods.base import System
from jax_mspac.models import layouts
from jax_mspac.models.layouts import LINEAR, OIHW, Row


def _settings(tensors: layouts.Tensors) -> dict[str, Any]:
    def numbers(pattern: str) -> list[int]:
        return [int(match[1]) for name in tensors if (match := re.match(pattern, name))]

    return {
        **layouts.resnet_settings(tensors),
        "model.shared_from": 1 + max(numbers(r"visible_module\.visible\.layer(\d)"), default=0),
        "model.stripes": 1 + max(numbers(r"local_conv_list\.(\d+)\.")),
        "model.embedding_dim": len(tensors["local_conv_list.0.0.bias"]),
    }


LAYOUT = layouts.Layout(
    streams=agw.STREAMS,
    rows=(
        Row(r"embedder/embedding_(?P<part>\d+)/kernel", "local_conv_list.{part}.0.weight", OIHW),
        *layouts.norm("embedder/neck", "local_conv_list.{part}.1", minus="local_conv_list.{part}.0.bias"),
        Row("heads/classifier", "fc_list.{part}.weight", LINEAR),
        Row("heads/classifier_bias", "fc_list.{part}.bias"),
    ),
    first=("fc_list.0.weight", "local_conv_list.0.0.bias"),
    settings=_settings,
)
SYSTEM = System(
    title="Hetero-center triplet",
    build=learned.build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 2,
        "model.embedding_dim": 256,  # per stripe
        "model.embedding_start": "he",
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
    layout=LAYOUT,
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
