"""Scores features of any origin by the protocols of a data set: a .npz file in, the table of an evaluation out.

The file holds the whole test set; the protocols draw the galleries from it. Its keys, as `numpy.savez` writes them:

    query_features [Q, D]     floats, compared by cosine; for another distance give `distances`
    gallery_features [G, D]   floats
    distances [Q, G]          floats instead of the two, smaller is more alike. Each must depend on its pair alone:
                              re-ranked distances depend on the whole gallery, which a protocol draws anew; for
                              those give features and config.eval.postprocessing
    query_ids [Q]             integers: the identity numbers of the data set's folders
    gallery_ids [G]           integers
    query_cams [Q]            integers: the camera numbers of the data set; not needed for RegDB
    gallery_cams [G]          integers
    gallery_index [G]         integers from 1: the place of an image among all images, sorted by path, of its identity
                              and camera. Galleries are drawn by it. Official galleries need it; without it, seeded ones
                              take the images of an identity and camera to be in this order already
    direction                 a string, "infrared->visible" or "visible->infrared"; default: config.eval.direction

Equal distances rank by camera, identity and place. Other keys are not read.
"""

import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_mspac.data.data_set import DataSet
from jax_mspac.errors import UserError
from jax_mspac.metrics.distances import Distances, cosine_distances
from jax_mspac.metrics.reranking import reranked_distances
from jax_mspac.metrics.retrieval import evaluate_protocol
from jax_mspac.modalities import MODALITIES
from jax_mspac.protocols.base import DIRECTIONS

FEATURE = "given"

# Two axes: floats; one: integers; none: a string.
_AXES = {
    "query_features": "QD",
    "gallery_features": "GD",
    "distances": "QG",
    "query_ids": "Q",
    "query_cams": "Q",
    "gallery_ids": "G",
    "gallery_cams": "G",
    "gallery_index": "G",
    "direction": "",
}
_KINDS = {2: ("f", "floats"), 1: ("iu", "integers"), 0: ("U", "a string")}


def score(path: pathlib.Path, data_set: DataSet, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Scores a .npz file, with the keys above, by the protocols of a data set and settings such as `config.eval`.

    Returns:
      The results: see `runs.results`.

    Raises:
      UserError: the file is damaged or not as described, with everything that is wrong with it; or it, or the settings,
        do not fit the protocols of the data set.
    """
    arrays = read(path, data_set=data_set, indexed=_official(settings))
    postprocessing = settings["postprocessing"]
    if postprocessing and "distances" in arrays:
        raise UserError(
            f"config.eval.postprocessing is {postprocessing}; {path} has distances, and re-ranking needs "
            "query_features and gallery_features: give those instead, or set config.eval.postprocessing=()"
        )
    direction = str(arrays.get("direction", settings["direction"]))
    if data_set.test_set and direction != data_set.test_set.direction:
        raise UserError(
            f"the direction, in {path} or config.eval, is {direction}; {data_set.name} has "
            f"{data_set.test_set.direction} only"
        )
    query_modality, gallery_modality = (MODALITIES.index(modality) for modality in direction.split("->"))

    count = arrays["query_ids"].size
    order = _path_order(arrays)
    numbers = np.concatenate([arrays["query_ids"], arrays["gallery_ids"][order]])
    names, identities = np.unique(numbers, return_inverse=True)
    cameras = np.concatenate([arrays["query_cams"], arrays["gallery_cams"][order]])
    modalities = np.full(numbers.size, gallery_modality)
    modalities[:count] = query_modality

    try:
        listed = data_set.search(identities, cameras, modalities, identity_names=names.tolist(), settings=settings)
    except UserError as error:
        raise UserError(f"{path} and config.eval do not fit {data_set.name}: {error}") from error
    protocols = [protocol for protocol in listed if protocol.direction == direction]

    distances = _distances(arrays, order)
    reranked = {step: _reranked(step, arrays, order) for step in postprocessing}
    rows = []
    for protocol in protocols:
        rows.append({**evaluate_protocol(distances, identities, cameras, protocol), "feature": FEATURE})
        for step, of_trial in reranked.items():
            row = evaluate_protocol(of_trial, identities, cameras, protocol, per_trial=True)
            rows.append({**row, "feature": f"{FEATURE}+{step}"})
    return {"features": str(path), "notes": _notes(arrays, path, data_set), "rows": rows, "primary": 0}


def _official(settings: Mapping[str, Any]) -> bool:
    return bool("official" in settings.get("galleries", ()) or settings.get("sysu_lists"))


def read(path: pathlib.Path, *, data_set: DataSet, indexed: bool = False) -> dict[str, np.ndarray]:
    """Reads and checks a .npz file, which must keep to the cameras of the data set; `indexed` requires `gallery_index`.

    Returns:
      The arrays by key: floats as stored, integers as int64 and `direction`, where given, as a string [].

    Raises:
      UserError: lists everything that is wrong with the file.
    """
    arrays, problems, others = _load(path)
    if not data_set.uses_cameras:
        arrays |= {
            f"{side}_cams": np.ones(ids.shape, np.int64)
            for side in ("query", "gallery")
            if f"{side}_cams" not in arrays and (ids := arrays.get(f"{side}_ids")) is not None
        }
    features = ("distances",) if "distances" in arrays else ("query_features", "gallery_features")
    required = (*features, "query_ids", "query_cams", "gallery_ids", "gallery_cams", *["gallery_index"] * indexed)
    if missing := [f"{key} is missing; expected {_expected(key)}" for key in required if key not in arrays]:
        problems += [*missing, *([f"keys of the file that are not read: {', '.join(others)}"] if others else [])]
    if "distances" in arrays:
        both = [key for key in ("query_features", "gallery_features") if key in arrays]
        problems += [f"{key} and distances are both given; expected one or the other" for key in both]
    readable = {key: value for key, value in arrays.items() if value is not None}
    problems += _wrong_shapes(readable)
    # The contents mean something only once every array is what it should be.
    problems = problems or _wrong_contents(readable, data_set)
    if problems:
        raise UserError(f"{path} cannot be scored:\n" + "\n".join(f"  {problem}" for problem in problems))
    return {key: value.astype(np.int64) if value.dtype.kind in "iu" else value for key, value in readable.items()}


def _load(path: pathlib.Path) -> tuple[dict[str, np.ndarray | None], list[str], list[str]]:
    """The arrays by key, None where one cannot be read; what is wrong with those; and the other keys."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected a .npz file with the features to score")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is damaged or not a .npz file; write it with numpy.savez and copy it whole")
    arrays: dict[str, np.ndarray | None] = {}
    problems = []
    # NumPy and zipfile have no common error type: damage ends in any of a dozen.
    try:
        with np.load(path, allow_pickle=False) as file:
            others = sorted(set(file.files) - _AXES.keys())
            for key in _AXES.keys() & set(file.files):
                try:
                    arrays[key] = np.asarray(file[key])
                except Exception as error:
                    arrays[key] = None
                    problems.append(f"{key} cannot be read ({error}); expected {_expected(key)}")
    except Exception as error:
        raise UserError(f"{path} is damaged ({error}); write it with numpy.savez and copy it whole") from error
    return {key: arrays[key] for key in _AXES if key in arrays}, sorted(problems), others


def _wrong_shapes(arrays: dict[str, np.ndarray]) -> list[str]:
    problems = []
    # Size of each axis, and the key that it comes from.
    sizes: dict[str, tuple[int, str]] = {}
    for key, values in arrays.items():
        axes = _AXES[key]
        found = f"{key} is {values.dtype} {list(values.shape)}"
        if values.ndim != len(axes) or values.dtype.kind not in _KINDS[len(axes)][0]:
            problems.append(f"{found}; expected {_expected(key)}")
            continue
        for axis, size in zip(axes, values.shape, strict=True):
            expected, source = sizes.setdefault(axis, (size, key))
            if size != expected:
                problems.append(f"{found}; expected {_expected(key)} with {axis} = {expected} as in {source}")
            elif size == 0:
                problems.append(f"{found}; expected {_expected(key)} with {axis} of 1 or more")
    return problems


def _wrong_contents(arrays: dict[str, np.ndarray], data_set: DataSet) -> list[str]:
    problems = []
    for key in ("query_features", "gallery_features", "distances"):
        if key in arrays:
            # Infinity is a distance that ranks last, but no direction in space.
            # The extremes of a row show both, without an array of flags as large as the features.
            extremes = np.stack([arrays[key].min(axis=1), arrays[key].max(axis=1)])
            broken = np.isnan(extremes) if key == "distances" else ~np.isfinite(extremes)
            rows = np.flatnonzero(broken.any(axis=0))
            if rows.size:
                what = "NaN" if key == "distances" else "NaN or infinity"
                problems.append(
                    f"{key} has {what} in {rows.size} rows, first in row {rows[0]}; expected finite numbers"
                )
    if data_set.test_set:
        for key, known in zip(("query_cams", "gallery_cams"), data_set.test_set.cameras, strict=True):
            unknown = sorted(set(arrays[key].tolist()) - set(known))
            if unknown:
                problems.append(f"{key} has cameras {unknown}; expected some of {list(known)}")
    if "gallery_index" in arrays:
        problems += _wrong_index(arrays)
    if "direction" in arrays and str(arrays["direction"]) not in DIRECTIONS:
        problems.append(f"direction is {str(arrays['direction'])!r}; expected {' or '.join(DIRECTIONS)}")
    return problems


def _wrong_index(arrays: dict[str, np.ndarray]) -> list[str]:
    order = _path_order(arrays)
    identities, cameras, index = (arrays[key][order] for key in ("gallery_ids", "gallery_cams", "gallery_index"))
    starts = np.append(True, (np.diff(identities) != 0) | (np.diff(cameras) != 0))
    position = np.arange(order.size)
    wrong = np.flatnonzero(index != position - np.maximum.accumulate(np.where(starts, position, 0)) + 1)
    if not wrong.size:
        return []
    identity, camera = identities[wrong[0]], cameras[wrong[0]]
    has = index[(identities == identity) & (cameras == camera)]
    shown = ", ".join(map(str, has[:8])) + ", ..." * (has.size > 8)
    return [
        f"gallery_index of identity {identity}, camera {camera} is {shown}; expected 1 to {has.size}, each once: the "
        "place of each image among all sorted images of the identity in the camera"
    ]


def _path_order(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The gallery by camera, identity and place: int64 [G]."""
    place = arrays.get("gallery_index", np.arange(arrays["gallery_ids"].size))
    return np.lexsort((place, arrays["gallery_ids"], arrays["gallery_cams"]))


def _distances(arrays: dict[str, np.ndarray], order: np.ndarray) -> Distances:
    """Distances of positions in the joint list: the queries, then the gallery in `order`."""
    count = arrays["query_ids"].size
    if "distances" in arrays:
        table = arrays["distances"]
        return lambda queries, gallery: table[np.ix_(queries, order[gallery - count])]
    cosine = cosine_distances(arrays["query_features"], arrays["gallery_features"])

    def distances(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        # In the order of the file, where the features of a whole gallery need no copy.
        rows = order[gallery - count]
        ascending = np.argsort(rows)
        return cosine(queries, rows[ascending]).take(np.argsort(ascending), axis=1)

    return distances


def _reranked(name: str, arrays: dict[str, np.ndarray], order: np.ndarray) -> Distances:
    """As `_distances`, re-ranked: for whole trials."""
    count = arrays["query_ids"].size
    reranked = reranked_distances(name, arrays["query_features"], arrays["gallery_features"])
    return lambda queries, gallery: reranked(queries, order[gallery - count])


def _notes(arrays: dict[str, np.ndarray], path: pathlib.Path, data_set: DataSet) -> list[str]:
    """What a reader of the result must know of the file."""
    found = arrays["query_ids"].size, arrays["gallery_ids"].size
    notes = [f"Features given in {path.name}: {found[0]} query and {found[1]} gallery images."]
    if data_set.test_set and found != data_set.test_set.images:
        queries, gallery = data_set.test_set.images
        notes.append(f"Not the test set of {data_set.name}, which has {queries} query and {gallery} gallery images.")
    if unmatched := int((~np.isin(arrays["query_ids"], arrays["gallery_ids"])).sum()):
        notes.append(f"{unmatched} of {found[0]} queries have no image of their identity in the gallery: not counted.")
    if "gallery_index" not in arrays and data_set.uses_cameras:
        notes.append("Without gallery_index: galleries are drawn from the images in the order of the file.")
    return notes


def _expected(key: str) -> str:
    axes = _AXES[key]
    return _KINDS[len(axes)][1] + (f" [{', '.join(axes)}]" if axes else "")
