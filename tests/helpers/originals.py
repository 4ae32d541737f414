"""Weights and inputs by rule, for which tests carry what the published PyTorch code of other systems gives.

The numbers were computed by the authors' own files, in float32 for RLE (github.com/stone96123/RLE at c3245b3) and DEEN
(github.com/ZYK100/LLCM at 886e27c), whose networks are those for SYSU-MM01, and in float64 for the others (AGW, CAJ:
github.com/mangye16/Cross-Modal-Re-ID-baseline at e817a26; hetero-center triplet:
github.com/hijune6/Hetero-center-triplet-loss-for-VT-Re-ID at ecb8603; hetero-center:
github.com/98zyx/Hetero-center-loss-for-cross-modality-person-re-id at 79edd97;
PMT's losses: github.com/hulu88/PMT at 0b31da9; MPANet: github.com/DoubtedSteam/MPANet at f57fd5c;
cmGAN: github.com/sshkhr/cmGAN at cb449c3, by others than its authors), but for BDTR
(github.com/mangye16/Visible-Thermal-Person-Re-Identification at 4a83564), whose TensorFlow code was transliterated.
"""

import zlib

import jax
import numpy as np

IDENTITIES = np.repeat(np.arange(8), 4)
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_FIRST = {"nonlocal2": 2, "nonlocal3": 3}  # the block after which the first non-local block of a layer comes


def features(kind: str, seed: int, distance: float, rows: int) -> np.ndarray:
    """Features float32 [rows, 512] of the 8 `IDENTITIES`, rows 0 to 31 of one modality, 32 to 63 of the other, ...

    Args:
      kind: "mixed": noise; "random": noise around a center for each identity; "tight": hardly any noise.
      seed: of the random numbers.
      distance: between two rows, about.
      rows: a multiple of 32.
    """
    rng = np.random.default_rng(seed)
    centers, noise = rng.standard_normal((8, 512)), rng.standard_normal((rows, 512))
    own = centers[np.tile(IDENTITIES, rows // 32)]
    made = {"random": 0.5 * own + noise, "mixed": noise, "tight": own + 0.02 * noise}[kind]
    return (made * (distance / 32)).astype(np.float32)


def pixels(height: int = 288, width: int = 144) -> dict[str, np.ndarray]:
    """Normalized pixels float32 [4, height, width, 3] of each modality."""
    rng = np.random.default_rng(7)
    maps = [(rng.standard_normal((4, 3, height, width)) * 0.5).astype(np.float32) for _ in range(2)]
    return dict(zip(("visible", "infrared"), (each.transpose(0, 2, 3, 1) for each in maps), strict=True))


def tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 tensor of a name and shape of torch's."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if len(shape) > 1:
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    if key.endswith("running_var"):
        return (1 + 0.2 * np.abs(rng.standard_normal(shape))).astype(np.float32)
    if key.endswith("running_mean"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if key.endswith("weight"):
        return (0.5 + 0.05 * rng.standard_normal(shape)).astype(np.float32)
    return (0.05 * rng.standard_normal(shape)).astype(np.float32)


def agw_key(path: tuple) -> str:
    """AGW's name of a variable of the embedder or the heads, whose path in the tree starts with its collection."""
    *modules, leaf = jax.tree_util.keystr(path[1:], simple=True, separator="/").split("/")
    if leaf == "classifier":
        return "classifier.weight"
    modules = [name for name in modules if name != "backbone"]
    if modules == ["neck"]:
        return f"bottleneck.{_LEAVES[leaf]}"
    stream, block, *inner = modules
    if stream != "shared":
        stream = {"infrared": "thermal"}.get(stream, stream)
        return f"{stream}_module.{stream}.{block}.{_LEAVES[leaf]}"
    stage, number = block.split("_")
    if stage in _FIRST:
        name = {"g": "g.0", "W": "W.0", "bn": "W.1"}.get(*inner, *inner)
        return f"NL_{stage[-1]}.{int(number) - _FIRST[stage]}.{name}.{_LEAVES[leaf]}"
    return f"base_resnet.base.{stage}.{number}.{inner[0].replace('_', '.')}.{_LEAVES[leaf]}"


def agw(shapes):
    """Variables of these shapes with AGW's tensors."""

    def fill(path, leaf):
        key, size = agw_key(path), leaf.shape
        match len(size):
            case 4:
                return tensor(key, (size[3], size[2], *size[:2])).transpose(2, 3, 1, 0)
            case 3:
                return tensor(key, size[:0:-1]).T[None]
            case 2:
                return tensor(key, (*size[::-1], 1, 1))[..., 0, 0].T
        array = tensor(key, size)
        # The bias of W, which the normalization behind it takes out.
        return array - tensor(key.replace("W.1.running_mean", "W.0.bias"), size) if "W.1.running_mean" in key else array

    return jax.tree_util.tree_map_with_path(fill, shapes)
