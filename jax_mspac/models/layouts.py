"""Whole networks as other programs keep them: what each tensor is called there, and which leaf of ours it is."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from jax_mspac.errors import UserError
from jax_mspac.models.pretrained import TorchNames

PyTree = Any
Tensors = Mapping[str, np.ndarray]

OIHW = (2, 3, 1, 0)
LINEAR = (1, 0)
_COUNTER = "num_batches_tracked"
# Leaves that only we have: they stay as they are made.
_OURS = r"embedder/pooling/p|heads/(?!classifier).*"
_SHOWN = 8


class Row(NamedTuple):
    """The tensors of the leaves whose path a pattern matches.

    Attributes:
      path: regular expression of a path such as embedder/neck/scale.
      name: what `Match.expand` makes a tensor's name of. With {part} or {number}, which count from 0 and from 1, or
        {name}, one of `Layout.parts`, the leaf holds such a tensor of each part, one after the other; a group called
        "part" in the path is the one part.
      axes: of the tensor, in the order of the leaf's, as in `pretrained.Row`; axes of size 1 come and go in front.
      minus: name, likewise, of a tensor that is taken off: a bias before a normalization belongs to its mean.
    """

    path: str
    name: str
    axes: tuple[int, ...] = ()
    minus: str = ""


def norm(path: str, name: str, *, minus: str = "") -> tuple[Row, ...]:
    """The rows of a batch normalization."""
    return (
        Row(f"{path}/scale", f"{name}.weight"),
        Row(f"{path}/bias", f"{name}.bias"),
        Row(f"{path}/mean", f"{name}.running_mean", minus=minus),
        Row(f"{path}/var", f"{name}.running_var"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How the public code of a system names the tensors of its checkpoints.

    Attributes:
      streams: what the code puts before the names of a backbone: of "visible", "infrared" and "shared" stages.
      rows: of the leaves outside the backbone; the first that matches counts. A leaf that none matches has no tensor.
      first: names of tensors that tell the code apart, or that `settings` needs. The first has a row for each class.
      settings: what the tensors decide: config field -> value.
      unused: regular expression of the names of tensors that the code keeps and does not use; counters of batches and
        zeros come by themselves.
      zeros: of the names of those that have no place here and do nothing, because they are zero.
      older: (pattern, replacement) of names that some versions of the code have.
      more: the tensors that the code also needs, made of the others.
      parts: what {name} stands for in `rows`, part by part.
      nest: under which name the code keeps its tensors in a file, beside "epoch"; "" for tensors alone.
    """

    streams: Mapping[str, str]
    rows: tuple[Row, ...]
    first: tuple[str, ...]
    settings: Callable[[Tensors], dict[str, Any]]
    unused: str = ""
    zeros: str = ""
    older: tuple[str, str] = ("$^", "")
    more: Callable[[Tensors], dict[str, np.ndarray]] = lambda tensors: {}
    parts: tuple[str, ...] = ()
    nest: str = "net"

    def renamed(self, tensors: Tensors) -> dict[str, np.ndarray]:
        """The tensors under the names of `rows`."""
        return {re.sub(*self.older, name): value for name, value in tensors.items()}

    def lacks(self, tensors: Tensors) -> list[str]:
        """What shows that tensors are not of this code: the names, or beginnings of names, that are not there."""
        return [
            start for start in (*self.streams.values(), *self.first) if not any(n.startswith(start) for n in tensors)
        ]

    def classes(self, tensors: Tensors) -> int:
        """The number of training identities."""
        return len(tensors[self.first[0]])


class _Place(NamedTuple):
    part: int | None  # None: the whole leaf
    name: str
    axes: tuple[int, ...]
    minus: str


def load(networks: PyTree, tensors: Tensors, layout: Layout, names: TorchNames, *, source: str) -> PyTree:
    """The networks of a method with their leaves replaced by the tensors of a checkpoint.

    Every tensor is accounted for: each is used, or known to be unused, or it is refused.

    Args:
      networks: {"embedder": variables, "heads": variables}.
      tensors: name -> array, `Layout.renamed`.
      layout: of the tensors.
      names: of the backbone.
      source: where they come from, for messages.

    Raises:
      UserError: lists the tensors that are missing, unexpected, of another shape, not finite, or not zero.
    """
    flat = traverse_util.flatten_dict(networks)
    problems: dict[str, list[str]] = {}
    used = set()

    def wrong(kind: str, what: str) -> None:
        problems.setdefault(kind, []).append(what)

    for key, path, places in _placed(flat, layout, names):
        leaf = flat[key]
        if places is None:
            wrong("parts of the model that such a file does not hold (see config.model)", path)
            continue
        pieces = []
        for place in places:
            given = [name for name in (place.name, place.minus) if name]
            used.update(given)
            if missing := [name for name in given if name not in tensors]:
                for name in missing:
                    wrong("missing", name)
                continue
            value, shape = tensors[place.name], _to_torch(_piece(leaf, place, len(places)), place.axes).shape
            if place.minus:
                value = value - tensors[place.minus]
            if value.shape != shape:
                wrong("of another shape", f"{place.name} {list(value.shape)}, the model has {list(shape)}")
            elif not np.isfinite(value).all():
                wrong("not finite", place.name)
            else:
                pieces.append(value.transpose(place.axes) if place.axes else value)
        if len(pieces) == len(places):
            flat[key] = np.asarray(np.stack(pieces).reshape(leaf.shape), leaf.dtype)
    for name in sorted(tensors.keys() - used):
        if re.fullmatch(layout.zeros or "$^", name):
            if np.any(tensors[name]):
                wrong("not zero, as the public code leaves them (config.model.neck=affine may have a place)", name)
        elif not re.fullmatch(layout.unused or "$^", name) and not name.endswith(_COUNTER):
            wrong("unexpected", name)
    if problems:
        lines = (f"{kind}: {_listed(list(dict.fromkeys(what)))}" for kind, what in problems.items())
        raise UserError(f"{source}: the tensors are not those of the model:\n  " + "\n  ".join(lines))
    return traverse_util.unflatten_dict(flat)


def tensors_of(networks: PyTree, layout: Layout, names: TorchNames, *, source: str) -> dict[str, np.ndarray]:
    """The state_dict that the public code loads: the inverse of `load`, with zeros for biases that `minus` took off.

    Args:
      networks: see `load`.
      layout: of the tensors.
      names: of the backbone.
      source: where the networks come from, for messages.

    Raises:
      UserError: the public code has no place for a part of the embedder.
    """
    flat = traverse_util.flatten_dict(networks)
    tensors: dict[str, np.ndarray] = {}
    extra = []
    for key, path, places in _placed(flat, layout, names):
        if places is None:
            extra.append(path)
            continue
        for place in places:
            value = _to_torch(_piece(flat[key], place, len(places)), place.axes)
            tensors[place.name] = np.ascontiguousarray(value)
            if place.minus:
                tensors[place.minus] = np.zeros_like(tensors[place.name])
    if extra:
        raise UserError(f"{source}: the public code has no place for {_listed(extra)}")
    tensors = {**layout.more(tensors), **tensors}
    means = [name for name in tensors if name.endswith(".running_mean")]
    counters = {name.replace("running_mean", _COUNTER): np.array(0, np.int64) for name in means}
    return {**tensors, **counters}


def resnet_settings(tensors: Tensors) -> dict[str, Any]:
    """Which ResNet tensors are of, whatever stands before torchvision's names."""
    blocks = {match[1] for name in tensors if (match := re.search(r"\blayer3\.(\d+)\.conv1\.", name))}
    bottleneck = any(re.search(r"\blayer4\.0\.conv3\.", name) for name in tensors)
    kinds = {(1, False): "resnet10", (2, False): "resnet18", (6, False): "resnet34", (6, True): "resnet50"}
    stems = (value for name, value in tensors.items() if name.endswith(".conv1.weight") and "layer" not in name)
    found = {"model.backbone": kinds.get((len(blocks), bottleneck)), "model.width": next(map(len, stems), None)}
    return {field: value for field, value in found.items() if value}


def _placed(
    flat: Mapping[tuple[str, ...], Any], layout: Layout, names: TorchNames
) -> Iterator[tuple[tuple[str, ...], str, list[_Place] | None]]:
    """The key of each leaf that is not only ours, its path, and its tensors; None for a leaf without any."""
    parts = len(flat["heads", "params", "classifier"])
    for key in list(flat):
        network, _, *inner = key
        path = "/".join((network, *inner))
        if not re.fullmatch(_OURS, path):
            yield key, path, _places(path, parts, layout, names)


def _places(path: str, parts: int, layout: Layout, names: TorchNames) -> list[_Place] | None:
    backbone = re.fullmatch(r"embedder/backbone/(\w+)/(.*)", path)
    if backbone and backbone[1] in layout.streams and (found := names.of(backbone[2])):
        return [_Place(None, layout.streams[backbone[1]] + found[0], found[1], "")]
    for row in layout.rows:
        match = re.fullmatch(row.path, path)
        if not match:
            continue
        whole = "{" not in row.name
        alone = None if whole else match.groupdict().get("part")
        listed = []
        for part in (0,) if whole else range(parts) if alone is None else (int(alone),):
            known = {"part": part, "number": part + 1, "name": layout.parts[part] if layout.parts else ""}
            name, minus = (match.expand(text).format(**known) for text in (row.name, row.minus))
            listed.append(_Place(None if whole or alone else part, name, row.axes, minus))
        return listed
    return None


def _piece(leaf: Any, place: _Place, count: int) -> np.ndarray:
    leaf = np.asarray(leaf)
    return leaf if place.part is None else leaf.reshape(count, -1, *leaf.shape[2:])[place.part]


def _to_torch(piece: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    if not axes:
        return piece
    # Of leading axes of size 1 there may be too few or too many.
    return piece.reshape(((1,) * len(axes) + piece.shape)[-len(axes) :]).transpose(np.argsort(axes))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
