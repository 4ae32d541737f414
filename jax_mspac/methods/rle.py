"""RLE (NeurIPS 2024): random linear enhancement, three stripes and the whole map, a classifier and a triplet for each.

The network is the one of the public code (github.com/stone96123/RLE) for SYSU-MM01 and LLCM.
"""

import numpy as np

from jax_mspac.methods import agw, learned
from jax_mspac.methods.base import System
from jax_mspac.models import layouts
from jax_mspac.models.layouts import LINEAR, Row

_PARTS = ("1", "2", "3", "g")
# A third stem is kept and never used.
_UNUSED_STEM = "middle_module.middle."


def _more(tensors: layouts.Tensors) -> dict[str, np.ndarray]:
    """Four whole ResNets, of which the code uses parts of three, and the frozen biases of the necks."""
    whole = {name.removeprefix(p): v for p in agw.STREAMS.values() for name, v in tensors.items() if name.startswith(p)}
    biases = {f"bottleneck{part}.bias": np.zeros_like(tensors[f"bottleneck{part}.weight"]) for part in _PARTS}
    return {f"{p}{name}": v for p in (*agw.STREAMS.values(), _UNUSED_STEM) for name, v in whole.items()} | biases


LAYOUT = layouts.Layout(
    streams=agw.STREAMS,
    rows=(
        *layouts.norm("embedder/neck", "bottleneck{name}"),
        Row("heads/classifier", "classifier{name}.weight", LINEAR),
    ),
    first=("classifierg.weight", "bottleneck1.weight"),
    settings=layouts.resnet_settings,
    unused=rf"middle_module\..*|{agw.LAYOUT.unused}",
    zeros=r"bottleneck[123g]\.bias",
    more=_more,
    parts=_PARTS,
)
SYSTEM = System(
    title="RLE",
    build=learned.build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 1,
        "model.stripes": 3,
        "loss.identity": "both",
        "loss.batch_hard.weight": 1.0,
        "loss.batch_hard.parts": "alone",
        "augment.moderate_enhancement": 0.5,
        "augment.radical_enhancement": 0.5,
        "augment.erasing": 0.5,
        "eval.flip": True,
    },
    layout=LAYOUT,
    images=(4, 4),
    recipe={
        **learned.AGW_RECIPE,
        "augment.erasing": 0.5,
        # Epochs 10, 20, 80 and 120 of 151.
        "optimizer.warmup": 0.066,
        "optimizer.milestones": (0.132, 0.53, 0.795),
        "batch.identities": 6,
    },
)
