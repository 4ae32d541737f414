"""AGW (Ye et al., arXiv 2001.04193): own stems, non-local blocks, GeM, BNNeck, weighted regularized triplet loss.

As in the public code, non-local blocks have one inner channel, and GeM's exponent is fixed. The weights of the triplet
are the paper's: `loss.weighted_regularized.epsilon=1e-6` is what the code adds.
"""

from typing import Any

import numpy as np

from jax_mspac.methods import learned
from jax_mspac.methods.base import System
from jax_mspac.models import layouts
from jax_mspac.models.layouts import LINEAR, OIHW, Row

SETTINGS = {
    **learned.IDENTITY_ALONE,
    "model.shared_from": 1,
    "model.nonlocal_blocks": True,
    "model.nonlocal_channels": 1,
    "model.pooling": "gem",
    "model.gem_learned": False,
    "loss.weighted_regularized.weight": 1.0,
}


def _settings(tensors: layouts.Tensors) -> dict[str, Any]:
    if "NL_2.0.theta.weight" in tensors:
        held: dict[str, Any] = {"model.nonlocal_channels": len(tensors["NL_2.0.theta.weight"])}
    else:  # the `base` of the same code, which goes without both
        held = {"model.nonlocal_blocks": False, "model.pooling": "average"}
    return {**layouts.resnet_settings(tensors), **held}


def _more(tensors: layouts.Tensors) -> dict[str, np.ndarray]:
    """Each of the three streams is a whole ResNet, of which it uses a part; and the neck has a frozen bias."""
    prefixes = STREAMS.values()
    whole = {name.removeprefix(p): value for name, value in tensors.items() for p in prefixes if name.startswith(p)}
    bias = {"bottleneck.bias": np.zeros_like(tensors["bottleneck.weight"])}
    return {f"{prefix}{name}": value for prefix in prefixes for name, value in whole.items()} | bias


def _nonlocal_rows(path: str, name: str) -> tuple[Row, ...]:
    maps = {"theta": "theta", "phi": "phi", "g": "g.0"}
    return (
        *layouts.norm(f"{path}/bn", f"{name}.W.1", minus=f"{name}.W.0.bias"),
        Row(f"{path}/W/kernel", f"{name}.W.0.weight", OIHW),
        *(Row(f"{path}/{ours}/kernel", f"{name}.{theirs}.weight", OIHW) for ours, theirs in maps.items()),
        *(Row(f"{path}/{ours}/bias", f"{name}.{theirs}.bias") for ours, theirs in maps.items()),
    )


STREAMS = {
    "visible": "visible_module.visible.",
    "infrared": "thermal_module.thermal.",
    "shared": "base_resnet.base.",
}
# Of ResNet-50 the last 2 blocks of layer 2 and the last 3 of layer 3 are followed by a non-local one.
_NONLOCAL = [(layer, i) for layer, count in ((2, 2), (3, 3)) for i in range(count)]
LAYOUT = layouts.Layout(
    streams=STREAMS,
    rows=(
        *(row for k, i in _NONLOCAL for row in _nonlocal_rows(rf".*/nonlocal{k}_{k + i}", f"NL_{k}.{i}")),
        *layouts.norm("embedder/neck", "bottleneck"),
        Row("heads/classifier", "classifier.weight", LINEAR),
    ),
    first=("classifier.weight", "bottleneck.weight"),
    settings=_settings,
    unused=r"(visible_module\.visible|thermal_module\.thermal)\.layer\d\..*|base_resnet\.base\.(conv1|bn1)\..*",
    zeros=r"bottleneck\.bias",
    more=_more,
)
RECIPE = {**learned.AGW_RECIPE, "batch.identities": 8}
SYSTEM = System(title="AGW", build=learned.build, settings=SETTINGS, images=(4, 4), recipe=RECIPE, layout=LAYOUT)
