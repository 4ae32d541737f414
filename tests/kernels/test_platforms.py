"""Which form of a function runs where, and what its gradient keeps."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.kernels.convolution import conv
from jax_mspac.kernels.platforms import by_platform
from jax_mspac.kernels.pooling import max_pool
from jax_mspac.models.embedder import Embedder


def operations(f, platforms, *args):
    text = jax.jit(f).trace(*args).lower(lowering_platforms=platforms).as_text()
    return collections.Counter(re.findall(r"stablehlo\.(\w+)", text))


def test_each_platform_has_its_form_and_that_form_s_gradient():
    chosen = by_platform(lambda x, y: jnp.sin(x) * y, lambda x, y: jnp.exp(x) * y)
    gradient = jax.grad(lambda x, y: chosen(x, y).sum(), argnums=(0, 1))
    x, y = jnp.float32([0.5, 2]), jnp.float32([3, 4])
    for run in (lambda f: f(x, y), lambda f: jax.jit(f)(x, y), lambda f: jax.vmap(f)(x, y)):
        np.testing.assert_allclose(run(chosen), np.sin(x) * y, rtol=1e-6)
        for actual, expected in zip(run(gradient), (np.cos(x) * y, np.sin(x)), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-6)
    for f in (chosen, gradient):
        on_cpu, on_gpu = operations(f, ("cpu",), x, y), operations(f, ("cuda",), x, y)
        assert on_cpu["sine"] and not on_cpu["exponential"]
        assert on_gpu["exponential"] and not on_gpu["sine"] and not on_gpu["cosine"]
        both = operations(f, ("cpu", "cuda"), x, y)
        assert both["sine"] and both["exponential"]


def test_only_the_arguments_are_kept_for_the_gradient():
    _, vjp = jax.vjp(by_platform(lambda x: jnp.sin(jnp.exp(x)), jnp.tanh), jnp.arange(3.0))
    (kept,) = (leaf for leaf in jax.tree.leaves(vjp) if jnp.shape(leaf))
    np.testing.assert_array_equal(kept, jnp.arange(3.0))


def test_a_compiled_program_chooses_nothing():
    chosen = by_platform(lambda x: jnp.sin(x), lambda x: jnp.exp(x))
    text = jax.jit(jax.grad(lambda x: chosen(x).sum())).lower(jnp.arange(3.0)).compile().as_text()
    assert "cosine" in text and "exponential" not in text and "conditional" not in text


@pytest.fixture(scope="module")
def gradient_operations():
    """(kernels, platform) -> the operations of the gradient of a network with every form."""
    images = {modality: jnp.zeros((2, 96, 48, 3)) for modality in ("visible", "infrared")}
    found = {}
    for kernels in ("auto", "native"):
        model = Embedder(backbone="resnet50", kernels=kernels)
        variables = jax.eval_shape(lambda model=model: model.init(jax.random.key(0), images, train=False))

        def loss(params, statistics, model=model):
            variables = {"params": params, "batch_stats": statistics}
            features, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
            return jnp.sum(features["after_neck"] ** 2), updated

        for platform in ("cpu", "cuda"):
            gradient = jax.grad(loss, has_aux=True)
            arguments = variables["params"], variables["batch_stats"]
            found[kernels, platform] = operations(gradient, (platform,), *arguments)
    return found


def test_a_gpu_computes_native_operations_alone(gradient_operations):
    chosen, native = gradient_operations["auto", "cuda"], gradient_operations["native", "cuda"]
    assert native["convolution"] > 100
    for operation in ("convolution", "dot_general", "reduce_window", "select_and_scatter", "add", "multiply"):
        assert chosen[operation] == native[operation]


def test_native_switches_the_forms_of_cpus_off(gradient_operations):
    assert gradient_operations["native", "cpu"]["convolution"] == gradient_operations["native", "cuda"]["convolution"]
    assert gradient_operations["native", "cpu"]["select_and_scatter"]
    assert not gradient_operations["auto", "cpu"]["select_and_scatter"]
    assert gradient_operations["auto", "cpu"]["dot_general"] > 100 + gradient_operations["native", "cpu"]["dot_general"]


def test_a_batch_of_open_size_is_lowered_for_every_platform_on_a_machine_with_cpus_alone():
    """Each of the forms that CPUs have: 1x1 and 3x3 convolutions, and pooling."""

    def block(x, one, three):
        x = max_pool(x, window=3, stride=2, padding=1)
        return conv(conv(x, one), three, padding=1)

    (batch,) = jax.export.symbolic_shape("batch")
    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((batch, 16, 16, 64), (1, 1, 64, 64), (3, 3, 64, 64))
    ]
    counts = {}
    for platforms in (("cpu",), ("cuda",), ("tpu",), ("cpu", "cuda", "tpu")):
        exported = jax.export.export(jax.jit(block), platforms=platforms)(*shapes)
        counts[platforms] = collections.Counter(re.findall(r"stablehlo\.(\w+)", exported.mlir_module()))
    for other in (("cuda",), ("tpu",)):
        assert counts[other]["convolution"] == 2 and not counts[other]["dot_general"]
        assert counts[other]["reduce_window"] == 1
    assert counts["cpu",]["dot_general"] > 2 and not counts["cpu",]["convolution"] + counts["cpu",]["reduce_window"]
    # The last export, of all platforms, runs here as the function does, whatever the size of the batch.
    rng = np.random.default_rng(0)
    for count in (1, 3):
        arguments = [rng.normal(size=(count, 16, 16, 64)), rng.normal(size=(1, 1, 64, 64)) / 8]
        arguments = [np.float32(x) for x in (*arguments, rng.normal(size=(3, 3, 64, 64)) / 24)]
        np.testing.assert_allclose(exported.call(*arguments), block(*arguments), atol=1e-4)
