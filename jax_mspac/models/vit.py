"""Vision transformers (Dosovitskiy et al., arXiv 2010.11929), whose patches may overlap, with the names of `timm`."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES
from jax_mspac.models.backbone import Backbone, passed_on
from jax_mspac.models.pretrained import Row, TorchNames
from jax_mspac.settings import FRACTION, POSITIVE, at_least, check, one_of, setting, within

PATCH = 16
# Patches and positions, then the blocks in four quarters: as many as a ResNet has, and `shared_from` means the same.
NUM_STAGES = 5
TOKENS = ("patches", "class")

_normal = nn.initializers.truncated_normal(0.02)


class Block(nn.Module):
    """Attention of all tokens to all, and two layers for each token, both added to what came in; normalized before.

    Attributes:
      heads: of the attention.
      drop_path: probability that an image goes without a branch while training.
      dropout: of each number that a layer makes, likewise.
      epsilon: of the normalizations.
      dtype: of the products; the sum that passes through all blocks is float32.
    """

    heads: int
    drop_path: float
    dropout: float
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Tokens float32 [n, T, C] to the same; keys [n], one per image, or None to drop nothing."""
        n, tokens, channels = x.shape
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_normal)
        norm = functools.partial(nn.LayerNorm, epsilon=self.epsilon, dtype=jnp.float32, use_fast_variance=False)

        def thinned(y: jax.Array, number: int) -> jax.Array:
            return dropped(y, keys, self.dropout, number)

        def added(x: jax.Array, y: jax.Array, number: int) -> jax.Array:
            return x + dropped(y, keys, self.drop_path, number, whole=True).astype(jnp.float32)

        y = dense(3 * channels, name="qkv")(norm(name="norm1")(x))
        q, k, v = jnp.moveaxis(y.reshape(n, tokens, 3, self.heads, -1), 2, 0)
        y = jax.nn.dot_product_attention(q, k, v).reshape(n, tokens, channels)
        x = added(x, thinned(dense(channels, name="proj")(y), 0), 1)
        y = nn.gelu(dense(4 * channels, name="fc1")(norm(name="norm2")(x)), approximate=False)
        return added(x, thinned(dense(channels, name="fc2")(thinned(y, 2)), 3), 4)


class Stages(nn.Module):
    """Consecutive stages: 0 makes tokens of an image, k is the k-th quarter of the blocks, 4 ends with `tokens`.

    `stages` says which, in order; none is the identity. The other fields are those of `ViT`.
    """

    depth: int
    heads: int
    stages: tuple[int, ...]
    grid: tuple[int, int]
    width: int
    patch_stride: int
    tokens: str
    drop_path: float
    dropout: float
    norm_epsilon: float
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Between stages, the tokens of an image are a map of one row, [n, 1, T, C]: the class token, then patches."""
        kind = nn.remat(Block) if self.remat else Block
        for stage in self.stages:
            if stage == 0:
                x = self._embedded(x, keys)[:, None]
                continue
            x = x[:, 0]
            for i in (i for i in range(self.depth) if 4 * i // self.depth == stage - 1):
                rate = self.drop_path * i / max(self.depth - 1, 1)
                block = kind(self.heads, rate, self.dropout, self.norm_epsilon, self.dtype, name=f"block_{i}")
                x = block(x, None if keys is None else fold_in(keys, i + 1))
            if stage < NUM_STAGES - 1:
                x = x[:, None]
                continue
            norm = nn.LayerNorm(self.norm_epsilon, dtype=jnp.float32, use_fast_variance=False, name="norm")
            x = norm(x).astype(self.dtype)
            x = x[:, None, :1] if self.tokens == "class" else x[:, 1:].reshape(x.shape[0], *self.grid, x.shape[-1])
        return x

    def _embedded(self, images: jax.Array, keys: jax.Array | None) -> jax.Array:
        """[n, H, W, channels] to tokens [n, 1 + patches, C], with positions added."""
        channels = self.heads * self.width
        shape, strides = (PATCH, PATCH), (self.patch_stride, self.patch_stride)
        x = nn.Conv(channels, shape, strides, padding="VALID", dtype=self.dtype, name="patches")(images)
        x = x.reshape(x.shape[0], -1, channels).astype(jnp.float32)
        start = nn.initializers.normal(0.02)
        first = self.param("class_token", start, (1, 1, channels), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], 1, channels)), x], axis=1)
        # The grid is a part of the name: the number of positions alone does not tell it.
        position = "position_{}x{}".format(*self.grid)
        x += self.param(position, start, (1, x.shape[1], channels), jnp.float32)
        return dropped(x, None if keys is None else fold_in(keys, 0), self.dropout, 0)


class ViT(nn.Module):
    """Vision transformer whose first stages exist once per modality and whose remaining stages are shared.

    Parameters are named MODALITY/... and shared/..., as of `resnet.ResNet`, then patches, class_token,
    position_{rows}x{columns}, block_{i}/{norm1, qkv, proj, norm2, fc1, fc2} and norm.

    While training, with a key for "dropout", each image is dropped from by a key of its own, made of its place among
    the images of its modality on all devices. So a step is the same on any number of devices, but for systems that
    show an image twice.

    Attributes:
      depth: number of blocks.
      heads: of the attention in each.
      width: channels of each head; 64 is the published size.
      patch_stride: pixels from one patch of 16 x 16 to the next; less than 16 makes them overlap.
      tokens: "patches" gives a map of them; "class" a map of one pixel, the class token.
      shared_from: the first shared stage: 0 shares all, 1 leaves a modality patches and positions of its own, 2 a
        quarter of the blocks as well, ..., 5 makes two networks.
      drop_path: of the last block; it rises from 0 at the first, as in most public code.
      dropout: of positions, attention and the layers of each token.
      norm_epsilon: of all normalizations. ImageNet's weights are made for 1e-6.
      remat: computes a block anew for its gradient, in place of keeping what is in it: less memory, more time.
      dtype: of the products; parameters, normalizations and the sum through all blocks are float32.
      axis_name: mapped axis over devices while training, or None.
    """

    depth: int
    heads: int
    width: int = setting(64, at_least(1))
    patch_stride: int = setting(PATCH, within(1, PATCH))
    tokens: str = setting("patches", one_of(TOKENS))
    shared_from: int = setting(1, within(0, NUM_STAGES))
    drop_path: float = setting(0.0, FRACTION)
    dropout: float = setting(0.0, FRACTION)
    norm_epsilon: float = setting(1e-6, POSITIVE)
    remat: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def __post_init__(self):
        super().__post_init__()
        check(self)

    @nn.compact
    def __call__(self, images: Mapping[str, jax.Array], *, train: bool) -> jax.Array:
        """Feature maps [N, h, w, C] in `dtype`: see `Backbone`.

        Raises:
          UserError: the images are smaller than a patch.
        """
        present = [modality for modality in MODALITIES if modality in images]
        height, width = images[present[0]].shape[1:3]
        if min(height, width) < PATCH:
            raise UserError(f"images of {height}x{width} pixels: a ViT needs {PATCH}x{PATCH} or more")
        grid = patches(self.patch_stride, height), patches(self.patch_stride, width)
        stages = passed_on(self, Stages, grid=grid)
        keys: dict[str, Any] = dict.fromkeys(present)
        if train and self.has_rng("dropout") and max(self.drop_path, self.dropout) > 0:
            key = _of_all_devices(self.make_rng("dropout"), self.axis_name)
            keys = {m: _of_images(key, MODALITIES.index(m), len(images[m]), self.axis_name) for m in present}
        own, shared = tuple(range(self.shared_from)), tuple(range(self.shared_from, NUM_STAGES))
        maps = [stages(stages=own, name=m)(images[m], keys[m]) for m in present]
        joined = None if keys[present[0]] is None else jnp.concatenate([keys[m] for m in present])
        return stages(stages=shared, name="shared")(jnp.concatenate(maps), joined)


def patches(stride: int, pixels: int) -> int:
    """How many patches there are along a side of so many pixels; 0 if it is shorter than one."""
    return max((pixels - PATCH) // stride + 1, 0)


def dropped(x: jax.Array, keys: jax.Array | None, rate: float, number: int, *, whole: bool = False) -> jax.Array:
    """Images x [n, ...] without a share `rate` of their numbers, or of all images if `whole`; the rest is scaled up.

    Each image has a key, and each place where something is dropped a number. Without keys nothing is.
    """
    if keys is None or rate == 0:
        return x
    shape = (1,) * (x.ndim - 1) if whole else x.shape[1:]
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(fold_in(keys, number))
    return jnp.where(kept, x / (1 - rate), 0.0)


fold_in = jax.vmap(jax.random.fold_in, in_axes=(0, None))


def _of_all_devices(key: jax.Array, axis_name: str | None) -> jax.Array:
    """The first device's key."""
    if axis_name is None:
        return key
    data = jax.random.key_data(key)
    data = lax.pmax(jnp.where(lax.axis_index(axis_name) == 0, data, jnp.zeros_like(data)), axis_name)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


def _of_images(key: jax.Array, modality: int, count: int, axis_name: str | None) -> jax.Array:
    """A key for each image that this device has of a modality, keys [count]."""
    before = 0 if axis_name is None else lax.axis_index(axis_name) * count
    key = jax.random.fold_in(key, modality)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, before + jnp.arange(count))


def resized(path: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Positions [1, 1 + S * S, C] of a square image for the grid that the path of a leaf names; else the value itself.

    Bilinear, as in the public code of PMT and of TransReID. The position of the class token stays.
    """
    grid = path.rpartition("position_")[2].split("x")
    side = math.isqrt(value.shape[1] - 1) if "position_" in path and value.ndim == 3 else 0
    if value.shape == shape or side == 0 or 1 + side * side != value.shape[1]:
        return value
    rows, columns = map(int, grid)
    square = value[:, 1:].reshape(1, side, side, -1)
    scaled = jax.image.resize(square, (1, rows, columns, value.shape[2]), "linear", antialias=False)
    return np.concatenate([value[:, :1], np.asarray(scaled).reshape(1, rows * columns, -1)], axis=1)


# Classifiers, also that of DeiT's distilled networks, have no place in an embedder.
TORCH_NAMES = TorchNames(
    rows=(
        Row(r"patches/kernel", "patch_embed.proj.weight", (2, 3, 1, 0)),
        Row(r"patches/bias", "patch_embed.proj.bias"),
        Row(r"class_token", "cls_token"),
        Row(r"position_\d+x\d+", "pos_embed"),
        Row(r"block_(\d+)/norm(\d)/scale", r"blocks.\1.norm\2.weight"),
        Row(r"block_(\d+)/norm(\d)/bias", r"blocks.\1.norm\2.bias"),
        Row(r"block_(\d+)/(qkv|proj)/kernel", r"blocks.\1.attn.\2.weight", (1, 0)),
        Row(r"block_(\d+)/(qkv|proj)/bias", r"blocks.\1.attn.\2.bias"),
        Row(r"block_(\d+)/(fc\d)/kernel", r"blocks.\1.mlp.\2.weight", (1, 0)),
        Row(r"block_(\d+)/(fc\d)/bias", r"blocks.\1.mlp.\2.bias"),
        Row(r"norm/scale", "norm.weight"),
        Row(r"norm/bias", "norm.bias"),
    ),
    ignored=r"(head|pre_logits)\..*",
    stem="patch_embed.proj.weight",
    resized=resized,
)


def backbone(depth: int, heads: int) -> Backbone:
    """The backbone of a transformer of so many blocks, each with so many heads."""
    return Backbone(
        module=ViT,
        fixed={"depth": depth, "heads": heads},
        stride=lambda vit: vit.patch_stride,
        window=PATCH,
        pooled=lambda vit: vit.tokens == "class",
        torch_names=TORCH_NAMES,
        new_layers=r"class_token|position_\d+x\d+|norm/.*",
    )
