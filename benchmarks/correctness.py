"""Numbers that every device must agree on: losses, attention, augmentation, and steps of the demo's network.

A CPU writes them down in float32, another device computes them again. What is drawn comes from numpy: JAX's fast
generator draws other numbers on other devices.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from configs import demo
from jax_mspac import methods
from jax_mspac.losses import LOSSES, Examples, Identity
from jax_mspac.methods import augmentation, players
from jax_mspac.methods.base import State
from jax_mspac.methods.learned import Learned
from jax_mspac.modalities import INFRARED, MODALITIES, VISIBLE
from jax_mspac.models.attention import CascadedPartAttention
from jax_mspac.runtime import parallel
from jax_mspac.training.nonfinite import guarded

CLASSES = 10
Numbers = dict[str, np.ndarray]


class Variant(NamedTuple):
    """A way to compute, and how far it may be from the reference: the relative difference of each group of numbers.

    Attributes:
      dtype: of the networks.
      precision: of products; None for what the device takes by itself, such as TF32.
      tolerances: of each of `GROUPS`.
    """

    dtype: str
    precision: str | None
    tolerances: tuple[float, ...]


GROUPS = ("losses", "attention", "augmentation", "first step", "five steps", "twenty steps")
# Training is chaotic. On a CPU, the losses of the same network in two forms that only round differently part by 3e-6
# in five steps and by 1e-3 in twenty; in bfloat16 and float32 by 3e-3. Rounded features open and close hinges: the
# gradients of triplet losses are up to 0.05 off in bfloat16.
VARIANTS = {
    "float32": Variant("float32", "highest", (1e-4, 1e-4, 1e-4, 1e-4, 1e-4, 1e-2)),
    "float32, fast products": Variant("float32", None, (3e-2, 1e-2, 1e-4, 3e-2, 1e-2, 3e-2)),
    "bfloat16": Variant("bfloat16", None, (1e-1, 3e-2, 1e-4, 1e-1, 1e-2, 3e-2)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """Of the demo's network and of its batches."""

    height: int = 96
    width: int = 48
    model_width: int = 16
    parts: tuple[int, ...] = (6, 3, 1)
    steps: int = 20


def numbers(size: Size, variant: Variant) -> Iterator[tuple[str, Numbers]]:
    """The groups of numbers, each when it is computed."""
    made: dict[str, Callable[[], Numbers]] = {
        "losses": lambda: _losses(variant),
        "attention": lambda: _attention(size, variant),
        "augmentation": lambda: _augmentation(size),
    }
    with jax.default_matmul_precision(variant.precision or "default"):
        for name, make in made.items():
            yield name, make()
        first, losses = _steps(size, variant)
        yield "first step", first
        yield "five steps", {name: values[:5] for name, values in losses.items()}
        yield "twenty steps", losses


def difference(found: Numbers, expected: Numbers) -> tuple[float, str]:
    """The largest relative difference of an array, and its name; infinity where one is missing or not finite."""
    worst = (0.0, "")
    for name, array in expected.items():
        ours = found.get(name)
        if ours is None or ours.shape != array.shape:
            return np.inf, name
        relative = float(np.linalg.norm(ours - array) / max(np.linalg.norm(array), 1e-30))
        worst = max(worst, (relative if np.isfinite(relative) else np.inf, name))
    return worst


def _losses(variant: Variant) -> Numbers:
    """Value and gradient of every loss, of noise around an identity's own center."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), 4)
    order = np.concatenate([np.arange(len(labels))[0::2], np.arange(len(labels))[1::2]])
    labels = labels[order]
    centers = rng.standard_normal((CLASSES, 2, 24), np.float32)
    features = centers[labels] + rng.standard_normal((len(labels), 2, 24), np.float32)
    logits = rng.standard_normal((len(labels), 1, CLASSES), np.float32)
    params = {"mecen": {"centers": rng.standard_normal((CLASSES, 48)).astype(np.float32)}}
    dtype = jnp.dtype(variant.dtype)

    def examples(features: jax.Array, logits: jax.Array) -> Examples:
        # What any of the losses looks at.
        seen = dict.fromkeys(("before_neck", "after_neck", *(kind().feature for kind in LOSSES.values())), features)
        return Examples(seen, logits, jnp.asarray(labels), len(labels) // 2, gather=lambda x: x)

    @jax.jit
    def all_of_them(features: jax.Array, logits: jax.Array) -> dict[str, Any]:
        found = {"identity": jax.value_and_grad(lambda x: Identity()(examples(features, x)))(logits)}
        for name, kind in LOSSES.items():
            loss = kind(weight=1.0)
            found[name] = jax.value_and_grad(lambda x, n=name, f=loss: f(examples(x, logits), params.get(n, {})))(
                features
            )
        return found

    found = jax.device_get(all_of_them(jnp.asarray(features, dtype), jnp.asarray(logits, dtype)))
    return {
        f"{name} {what}": np.asarray(value, np.float32)
        for name, both in found.items()
        for what, value in zip(("value", "gradient"), both, strict=True)
    }


def _attention(size: Size, variant: Variant) -> Numbers:
    """The cascade's result and its gradient by the feature map."""
    rng = np.random.default_rng(1)
    module = CascadedPartAttention(size.parts)
    maps = rng.standard_normal((2, size.height // 16, size.width // 16, 8 * size.model_width), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), maps)
    variables = {"params": _drawn(shapes["params"], rng)}
    weights = rng.standard_normal(maps.shape, np.float32)

    @jax.jit
    def both(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
        result, transposed = jax.vjp(lambda x: module.apply(variables, x), maps)
        return result, transposed(jnp.asarray(weights, result.dtype))[0]

    result, gradient = jax.device_get(both(jnp.asarray(maps, variant.dtype)))
    return {"result": _sample(result), "gradient": _sample(gradient)}


def _augmentation(size: Size) -> Numbers:
    """Images with everything switched on."""
    images = np.random.default_rng(2).integers(0, 256, (6, size.height, size.width, 3), np.uint8)
    how = augmentation.Augmentation(channel_exchange=0.4, random_gray=0.4, infrared_exchange=0.5)

    @jax.jit
    def augmented(images: jax.Array) -> dict[str, jax.Array]:
        keys = augmentation.sample_keys(3, 7, jnp.arange(len(images)))
        return {m: augmentation.augment(images, keys, modality=m, augmentation=how) for m in MODALITIES}

    return {modality: _sample(images) for modality, images in jax.device_get(augmented(images)).items()}


def _steps(size: Size, variant: Variant) -> tuple[Numbers, Numbers]:
    """Metrics and parameters after a training step of the demo's network, and the losses of many."""
    config = demo.get_config()
    config.data.height, config.data.width = size.height, size.width
    config.model.width, config.model.parts, config.model.dtype = size.model_width, size.parts, variant.dtype
    method = methods.build(methods.configured(config), num_identities=CLASSES)
    devices = jax.local_devices()[:1]
    update = parallel.data_parallel(guarded(method.update, skip=False), devices)
    state = parallel.replicate(drawn_state(method), devices)
    first, losses = {}, []
    for step in range(size.steps):
        state, metrics = update(state, parallel.shard(_batch(size, step), devices))
        losses.append(float(metrics["loss"]))
        if step == 0:
            first = {name: np.float32(value) for name, value in jax.device_get(metrics).items()}
            params = jax.device_get(state.variables["embedder"]["params"])
            first["parameters"] = np.concatenate([_sample(leaf) for leaf in jax.tree.leaves(params)])
    return first, {"loss": np.array(losses, np.float32)}


def drawn_state(method: Learned) -> State:
    """A state of step 0 on the host whose layers all count. Nothing is compiled for it."""
    shapes = jax.eval_shape(method.init, jax.random.key(0))
    rng = np.random.default_rng(4)
    embedder, heads = (_drawn(shapes.variables["embedder"], rng), _drawn(shapes.training["networks"]["heads"], rng))
    return jax.device_get(players.initial(method.players, {"embedder": embedder}, {"heads": heads}))


def _drawn(shapes: Any, rng: np.random.Generator) -> Any:
    """Weights in the place of shapes: noise that keeps the scale of what it multiplies, or what a layer starts with."""

    def leaf(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key if hasattr(path[-1], "key") else "classifier"
        if name in ("bias", "mean"):
            return np.zeros(shape.shape, shape.dtype)
        if name in ("scale", "var"):
            return np.ones(shape.shape, shape.dtype)
        inputs = max(int(np.prod(shape.shape[:-1])), 1)
        return (rng.standard_normal(shape.shape) * np.sqrt(1 / inputs)).astype(shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def _batch(size: Size, step: int) -> Mapping[str, Mapping[str, np.ndarray]]:
    """Of 8 identities with 2 + 2 images, each in the colors of its identity."""
    rng = np.random.default_rng([5, step])
    labels = np.repeat(rng.permutation(CLASSES)[:8], 2).astype(np.int32)
    batch = {}
    for number, modality in enumerate((VISIBLE, INFRARED)):
        colors = 20 * labels[:, None, None, None]
        noise = rng.integers(0, 60, (len(labels), size.height, size.width, 3))
        slots = np.arange(len(labels), dtype=np.int32) + number * len(labels)
        samples = {"image": (colors + noise).astype(np.uint8), "label": labels, "slot": slots}
        batch[modality] = {name: value[None] for name, value in samples.items()}
    return batch


def _sample(array: np.ndarray, most: int = 512) -> np.ndarray:
    """At most so many entries of an array, spread over it, in float32."""
    flat = np.asarray(array, np.float32).ravel()
    return flat[:: max(1, len(flat) // most)][:most]
