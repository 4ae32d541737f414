"""Trains AGW in 64-bit arithmetic, with the weights and pixels of `originals`, and prints what it saw as JSON.

A process of its own: every float32 of the package has to be a float64 before the package is imported.
"""

import dataclasses
import json
import os
import sys
from typing import Any

# Its steps take longer than their compilation.
os.environ.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

jax.config.update("jax_enable_x64", True)
jnp.float32 = jnp.float64

from helpers import original_steps, originals  # noqa: E402
from jax_mspac.methods.augmentation import MEAN, STD  # noqa: E402
from jax_mspac.models import embedder as embedders  # noqa: E402
from jax_mspac.runtime import parallel  # noqa: E402

STEPS = 2


def main() -> None:
    method, state = original_steps.agw()
    embedders.problems = lambda *_, **__: []  # no setting asks for 64 bits
    method = dataclasses.replace(method, embedder=method.embedder.clone(dtype="float64"))
    state = jax.tree.map(lambda x: x if x.dtype == np.int32 else np.asarray(x, np.float64), state)
    before = {**state.variables, **state.training["networks"]}
    before = {name: network["params"] for name, network in before.items()}
    slots = np.arange(4, dtype=np.int32)
    batch = {
        modality: {"image": x * STD.astype(np.float64) + MEAN, "label": original_steps.LABELS, "slot": slots}
        for modality, x in originals.pixels().items()
    }
    device = jax.local_devices()[:1]
    update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], device)
    batch = parallel.shard(jax.tree.map(lambda x: x[None], batch), device)
    # As a step leaves it, or the second step would be compiled again.
    state = parallel.replicate(state, device)
    decay, seen = method.recipe.weight_decay, {"trace": []}
    for step in range(STEPS):
        state, metrics = update(state, batch)
        seen["trace"].append([float(metrics[name]) for name in ("identity", "weighted_regularized")])
        if step == 0:
            # After one step the momentum is the gradient with its weight decay.
            leaves = jax.tree.leaves(state.training["optimizers"], is_leaf=_is_trace)
            (momentum,) = (leaf.trace for leaf in leaves if _is_trace(leaf))
            gradients = jax.tree.map(lambda m, w: m - decay * w, jax.device_get(momentum), before)
            statistics = jax.device_get(state.variables["embedder"]["batch_stats"])
            seen |= {"gradients": _norms(gradients), "statistics": _norms({"batch_stats": statistics})}
    json.dump(seen, sys.stdout)


def _is_trace(leaf: Any) -> bool:
    return isinstance(leaf, optax.TraceState)


def _norms(tree: Any) -> dict[str, float]:
    """Name of a tensor in the public code -> its norm."""
    listed = jax.tree_util.tree_leaves_with_path(tree)
    return {originals.agw_key(path): float(np.linalg.norm(leaf)) for path, leaf in listed}


if __name__ == "__main__":
    main()
