"""Weights for the backbone of an embedder to start from: torchvision's ResNets, or those of a run of ours."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES, VISIBLE

PyTree = Any
HUB = "hf://"
# A classifier of ImageNet classes and torch's batch counter have no place in an embedder.
IGNORED = re.compile(r"fc\..*|(.*\.)?num_batches_tracked")
# Torchvision has no non-local blocks. They stay as they are: at the start, the identity.
NEW = re.compile(r"nonlocal\d_\d+")
STEM = "conv1.weight"
TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def resolve(spec: str) -> Path:
    """Finds the weights file that `spec` names, downloading it if need be.

    Args:
      spec: path of a file, or hf://OWNER/NAME[@REVISION] for model.safetensors of a Hugging Face Hub model, which is
        kept in that library's cache.

    Raises:
      UserError: if the file does not exist or cannot be downloaded.
    """
    by_hand = (
        "give a file with model.pretrained=/path/model.safetensors, or start from scratch with model.pretrained=none"
    )
    if not spec.startswith(HUB):
        path = Path(spec)
        if not path.is_file():
            raise UserError(f"model.pretrained={spec}: there is no such file or workdir; {by_hand}")
        return path
    from huggingface_hub import hf_hub_download

    repository, _, revision = spec.removeprefix(HUB).partition("@")
    try:
        return Path(hf_hub_download(repository, "model.safetensors", revision=revision or None))
    except Exception as error:  # what fails here (names, network, disk) raises from four unrelated hierarchies
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"model.pretrained={spec}: model.safetensors cannot be downloaded ({reason}); {by_hand}"
        ) from error


def load_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a file of named tensors; never runs code from it.

    Args:
      path: .safetensors, .npz, or .pth / .pt (which needs torch).

    Raises:
      UserError: if the suffix is unknown, the file is damaged or holds other things than tensors, or torch is missing.
    """
    path = Path(path)
    readers = {".safetensors": safetensors.numpy.load_file, ".npz": _load_npz, ".pth": _load_torch, ".pt": _load_torch}
    if path.suffix not in readers:
        raise UserError(f"{path}: weights files end in one of {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except UserError:
        raise
    except Exception as error:  # a damaged file breaks each reader in many ways
        raise UserError(
            f"{path}: cannot be read as a {path.suffix} file of tensors: it is missing, damaged or holds something else"
        ) from error


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _load_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: reading {path.suffix} files needs torch: pip install 'jax_mspac[torch]', or convert the file to "
            ".safetensors"
        ) from error
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def tensors_of(variables: PyTree, *, source: str) -> dict[str, np.ndarray]:
    """The backbone of an `Embedder` as torchvision would name and lay it out, for `load_into`.

    Args:
      variables: {"params": {"backbone": ...}, "batch_stats": {"backbone": ...}}.
      source: where they come from, for messages.

    Returns:
      The tensors of the stages that a modality has for itself are named MODALITY/NAME.

    Raises:
      UserError: there is no backbone in the variables.
    """
    tensors = {}
    for path, leaf in traverse_util.flatten_dict(variables).items():
        if path[1] != "backbone" or NEW.fullmatch(path[3]):
            continue
        group, value = path[2], np.asarray(leaf)
        name = f"{group}/{torch_name(path[3:])}" if group in MODALITIES else torch_name(path[3:])
        tensors[name] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
    if not tensors:
        raise UserError(f"{source}: that run has no network whose weights another one could start from")
    return tensors


def load_into(variables: PyTree, tensors: Mapping[str, np.ndarray], *, source: str) -> PyTree:
    """Replaces the backbone's parameters and statistics.

    Stages that a modality has for itself get its own tensors (MODALITY/NAME) where there are such, and else those that
    both share; shared stages get the visible ones' where the tensors are not shared.

    Every tensor is accounted for: `fc.*` and `num_batches_tracked` are ignored, all others have to fit. A stem of two
    gray channels gets the sum of the stem's kernels for R, G and B in each of the two, and so starts with what the
    network of colors makes of a gray image.

    Args:
      variables: of an `Embedder`: {"params": {"backbone": ...}, "batch_stats": {"backbone": ...}}.
      tensors: torchvision name -> array in torch's layout; see `tensors_of`.
      source: where the tensors come from, for messages.

    Returns:
      New variables; what is not in the backbone is as before, and so are its non-local blocks.

    Raises:
      UserError: lists all names that are missing, unexpected, or of another shape than the backbone's, or not finite.
    """
    flat = traverse_util.flatten_dict(variables)
    used, problems = set(), []
    for path, leaf in flat.items():
        if path[1] != "backbone" or NEW.fullmatch(path[3]):
            continue
        name = torch_name(path[3:])
        key = next((key for key in (f"{path[2]}/{name}", name, f"{VISIBLE}/{name}") if key in tensors), None)
        if key is None:
            problems.append(f"{name}: missing")
            continue
        used.add(name)
        value, shape = tensors[key], leaf.shape
        is_kernel = len(shape) == 4  # OIHW there, HWIO here
        if is_kernel:
            shape = (shape[3], shape[2], *shape[:2])
        if name == STEM and shape[1] == 2 and value.shape[1:2] == (3,):
            value = np.repeat(value.sum(axis=1, keepdims=True), 2, axis=1)
        if value.shape != shape:
            problems.append(f"{name}: shape {value.shape}, the backbone needs {shape}")
        elif not (jnp.issubdtype(value.dtype, jnp.floating) and np.isfinite(value).all()):
            problems.append(f"{name}: not finite floating point numbers")
        else:
            # A copy of its own for each leaf: stages of both modalities must not share a buffer that is donated later.
            flat[path] = jnp.array(value.transpose(2, 3, 1, 0) if is_kernel else value, leaf.dtype)
    names = (name.rpartition("/")[2] for name in tensors)
    problems += [f"{name}: unexpected" for name in names if name not in used and not IGNORED.fullmatch(name)]
    if problems:
        listing = "\n  ".join(dict.fromkeys(problems))
        raise UserError(
            f"{source}: the weights do not fit the backbone (is model.backbone the right one?):\n  {listing}"
        )
    return traverse_util.unflatten_dict(flat)


def torch_name(path: tuple[str, ...]) -> str:
    """torchvision's name of a leaf: ("layer1_0", "downsample_1", "var") is layer1.0.downsample.1.running_var."""
    *modules, leaf = path
    return ".".join([*(re.sub(r"_(?=\d+$)", ".", module) for module in modules), TORCH_LEAVES[leaf]])
