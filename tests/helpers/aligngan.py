"""AlignGAN's networks at a small size, their weights by rule, and inputs, for numbers of its public code.

Names are those of github.com/wangguanan/AlignGAN at b376862, behind the name of the network there.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np

from helpers.originals import tensor

WIDTH, CLASSES, SIZE = 8, 3, 128
# Our network -> the public code's.
NETWORKS = {
    "to_infrared": "G_rgb2ir",
    "to_visible": "G_ir2rgb",
    "discriminator_visible": "D_rgb",
    "discriminator_joint": "D_ir",
    "discriminator_visible_warmup": "D_rgb_warmup",
    "discriminator_infrared_warmup": "D_ir_warmup",
    "heads": "embeder",
}
# Our layer -> theirs. Of a generator with one residual block, of PatchGAN, of the joint discriminator, of the heads.
_LAYERS = {
    r"first/conv": "model.0",
    r"first/norm": "model.1",
    r"down1/conv": "model.3",
    r"down1/norm": "model.4",
    r"down2/conv": "model.6",
    r"down2/norm": "model.7",
    r"block0/conv1": "model.9.model.0",
    r"block0/norm1": "model.9.model.1",
    r"block0/conv2": "model.9.model.3",
    r"block0/norm2": "model.9.model.4",
    r"up1/conv": "model.10",
    r"up1/norm": "model.11",
    r"up2/conv": "model.13",
    r"up2/norm": "model.14",
    r"last": "model.16",
    r"layers/conv0": "model.0",
    **{rf"layers/conv{i}": f"model.{3 * i - 1}" for i in range(1, 5)},
    r"image/conv0": "image_convs.0",
    r"image/conv1": "image_convs.2",
    r"image/conv2": "image_convs.5",
    r"feature": "feature_convs.0",
    r"both/conv0": "dis_convs.0",
    r"both/conv1": "dis_convs.3",
    r"score": "conv_src",
    r"bottleneck": "classifier0.bottle.0",
    r"bottleneck_norm": "classifier0.bottle.1",
    r"embedding": "embedder0",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def _leaf(network: str, path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    names = [entry.key for entry in path][1:]
    if names[0] in ("classifier", "classifier_bias"):
        kind = "bias" if names[0] == "classifier_bias" else "weight"
        key = f"{NETWORKS[network]}.classifier0.classifier.0.{kind}"
        return tensor(key, leaf.shape[::-1]).T
    key = f"{NETWORKS[network]}.{_LAYERS['/'.join(names[:-1])]}.{_LEAVES[names[-1]]}"
    if re.match("up", names[0]) and names[-1] == "kernel":  # theirs is of the map that it transposes
        height, width, inputs, outputs = leaf.shape
        return tensor(key, (inputs, outputs, height, width)).transpose(2, 3, 0, 1)[::-1, ::-1]
    if leaf.ndim == 4:
        return tensor(key, tuple(leaf.shape[i] for i in (3, 2, 0, 1))).transpose(2, 3, 1, 0)
    return tensor(key, leaf.shape[::-1]).T


def filled(network: str, shapes) -> dict:
    """The variables of one of our networks."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.asarray(_leaf(network, path, leaf)), shapes)


def images() -> list[np.ndarray]:
    """Visible and infrared images float32 [8, 128, 128, 3] in [-1, 1], of two people each."""
    rng = np.random.default_rng(7)
    low = [rng.standard_normal((8, 3, 16, 16)).astype(np.float32) for _ in range(2)]
    return [np.tanh(x.repeat(8, axis=2).repeat(8, axis=3)).transpose(0, 2, 3, 1) for x in low]


LABELS = np.repeat(np.arange(2), 4)


def encoder_map(normalized: jax.Array) -> jax.Array:
    """Instead of a network: [n, 384, 192, 3] averaged over 64 x 48 pixels, and from three to 2048 channels."""
    pooled = normalized.reshape(-1, 6, 64, 4, 48, 3).mean(axis=(2, 4))
    return jnp.tanh(jnp.einsum("nhwc,dc->nhwd", pooled, tensor("encoder.weight", (2048, 3))))
