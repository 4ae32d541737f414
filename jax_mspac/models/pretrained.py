"""Weights for the backbone of an embedder to start from: torch's by a table of names, or those of a run of ours."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES, VISIBLE

PyTree = Any


class Row(NamedTuple):
    """Torch's name of the leaves whose path a pattern matches.

    Attributes:
      path: regular expression of the path below MODALITY/ or shared/, such as layer1_0/conv1/kernel.
      name: what `re.Match.expand` makes the name of; a "/" and an "_" before a number become dots afterwards.
      axes: of torch's tensor, in the order of the leaf's: (2, 3, 1, 0) makes HWIO of OIHW. () leaves them.
    """

    path: str
    name: str
    axes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorchNames:
    """How a backbone's leaves are named and laid out in torch.

    Attributes:
      rows: the first one that matches a path counts.
      new: regular expression of the paths of leaves that torch does not have; they stay as they are.
      ignored: regular expression of the names of tensors that have no place in a backbone.
      stem: name of the kernel, in OIHW, that meets the colors.
    """

    rows: tuple[Row, ...]
    new: str = ""
    ignored: str = ""
    stem: str = ""

    def of(self, path: str) -> tuple[str, tuple[int, ...]] | None:
        """The name and the `Row.axes` of a leaf; None if it is new.

        Raises:
          ValueError: no row names it.
        """
        if re.fullmatch(self.new, path):
            return None
        for row in self.rows:
            if match := re.fullmatch(row.path, path):
                return re.sub(r"/|_(?=\d+(?:\W|$))", ".", match.expand(row.name)), row.axes
        raise ValueError(f"{path}: no row of the backbone's torch names matches this leaf")


def tensors_of(variables: PyTree, names: TorchNames, *, source: str) -> dict[str, np.ndarray]:
    """The backbone of an `Embedder` as torch would name and lay it out, for `load_into`.

    Args:
      variables: {"params": {"backbone": ...}, "batch_stats": {"backbone": ...}}.
      names: of the backbone.
      source: where they come from, for messages.

    Returns:
      The tensors of the stages that a modality has for itself are named MODALITY/NAME.

    Raises:
      UserError: there is no backbone in the variables.
    """
    tensors = {}
    for path, leaf in traverse_util.flatten_dict(variables).items():
        if path[1] != "backbone" or (found := names.of("/".join(path[3:]))) is None:
            continue
        name, axes = found
        key = f"{path[2]}/{name}" if path[2] in MODALITIES else name
        tensors[key] = np.transpose(leaf, np.argsort(axes)) if axes else np.asarray(leaf)
    if not tensors:
        raise UserError(f"{source}: that run has no network whose weights another one could start from")
    return tensors


def load_into(variables: PyTree, tensors: Mapping[str, np.ndarray], names: TorchNames, *, source: str) -> PyTree:
    """Replaces the backbone's parameters and statistics.

    Stages that a modality has for itself get its own tensors (MODALITY/NAME) where there are such, and else those that
    both share; shared stages get the visible ones' where the tensors are not shared.

    Every tensor is accounted for: all that are not ignored have to fit. A stem of two gray channels gets the sum of the
    stem's kernels for R, G and B in each of the two, and so starts with what the network of colors makes of a gray
    image. One of four, R, G, B and infrared, gets these kernels and their sum, half of each: it starts with the mean of
    what that network makes of the colors and of the infrared image.

    Args:
      variables: of an `Embedder`: {"params": {"backbone": ...}, "batch_stats": {"backbone": ...}}.
      tensors: name in torch -> array in torch's layout; see `tensors_of`.
      names: of the backbone.
      source: where the tensors come from, for messages.

    Returns:
      New variables; what is not in the backbone is as before, and so are its leaves that torch does not have.

    Raises:
      UserError: lists all names that are missing, unexpected, or of another shape than the backbone's, or not finite.
    """
    flat = traverse_util.flatten_dict(variables)
    used, problems = set(), []
    for path, leaf in flat.items():
        if path[1] != "backbone" or (found := names.of("/".join(path[3:]))) is None:
            continue
        name, axes = found
        key = next((key for key in (f"{path[2]}/{name}", name, f"{VISIBLE}/{name}") if key in tensors), None)
        if key is None:
            problems.append(f"{name}: missing")
            continue
        used.add(name)
        value, shape = tensors[key], tuple(leaf.shape[i] for i in np.argsort(axes)) if axes else leaf.shape
        if name == names.stem and shape[1] == 2 and value.shape[1:2] == (3,):
            value = np.repeat(value.sum(axis=1, keepdims=True), 2, axis=1)
        if name == names.stem and shape[1] == 4 and value.shape[1:2] == (3,):
            value = np.concatenate([value, value.sum(axis=1, keepdims=True)], axis=1) / 2
        if value.shape != shape:
            problems.append(f"{name}: shape {value.shape}, the backbone needs {shape}")
        elif not (jnp.issubdtype(value.dtype, jnp.floating) and np.isfinite(value).all()):
            problems.append(f"{name}: not finite floating point numbers")
        else:
            # A copy of its own for each leaf: stages of both modalities must not share a buffer that is donated later.
            flat[path] = jnp.array(value.transpose(axes) if axes else value, leaf.dtype)
    given = (name.rpartition("/")[2] for name in tensors)
    problems += [f"{name}: unexpected" for name in given if name not in used and not re.fullmatch(names.ignored, name)]
    if problems:
        listing = "\n  ".join(dict.fromkeys(problems))
        raise UserError(
            f"{source}: the weights do not fit the backbone (is model.backbone the right one?):\n  {listing}"
        )
    return traverse_util.unflatten_dict(flat)
