"""Training in bfloat16: what is float32 all the same, and what a step may differ by."""

import jax
import numpy as np
import pytest
from helpers import steps


@pytest.fixture(scope="module")
def both():
    """dtype -> state and metrics of three steps."""
    overrides = {"optimizer.name": "adamw", "optimizer.learning_rate": 1e-4, "loss.batch_hard.weight": 1.0}
    return {
        dtype: steps.run(steps.tiny_config(**{"model.dtype": dtype}, **overrides), devices=2, steps=3)
        for dtype in ("float32", "bfloat16")
    }


def test_parameters_statistics_and_optimizer_stay_in_float32(both):
    (state, _), (reference, _) = both["bfloat16"], both["float32"]
    assert jax.tree.map(lambda leaf: leaf.dtype, state) == jax.tree.map(lambda leaf: leaf.dtype, reference)
    kinds = {leaf.dtype for leaf in jax.tree.leaves(state)}
    assert kinds == {np.dtype(np.float32), np.dtype(np.int32)}


def test_losses_differ_by_rounding_and_the_network_does_compute_in_bfloat16(both):
    (_, low), (_, high) = both["bfloat16"], both["float32"]
    for of_low, of_high in zip(low, high, strict=True):
        assert of_low.keys() == of_high.keys() and {"identity", "mecen", "batch_hard"} <= of_low.keys()
        for name, value in of_high.items():
            assert of_low[name] == pytest.approx(value, rel=0.05, abs=0.02), name
    assert any(low[0][name] != high[0][name] for name in ("identity", "mecen", "batch_hard"))


def test_every_convolution_of_the_backbone_takes_bfloat16():
    config = steps.tiny_config(**{"model.dtype": "bfloat16"})
    method = steps.methods.build(config, num_identities=steps.CLASSES)
    state = jax.eval_shape(method.init, jax.random.key(0))
    update = steps.parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], jax.devices()[:1])
    lines = update.lower(state, steps.make_batch(config)).as_text().splitlines()
    convolutions = [line for line in lines if "stablehlo.convolution" in line]
    # The spatial gates of the attention have two input channels and are computed in float32.
    of_backbone = [line for line in convolutions if "x2x" not in line.split("(")[-1]]
    assert len(of_backbone) > 12 and all("bf16" in line for line in of_backbone)
