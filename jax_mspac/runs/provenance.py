"""What a run was made from: whom it was trained on, which weights it started from, which command began it.

The record lies in the folder of the run, so that it answers without the data at hand. Resuming compares the training
images with it; evaluation and reports compare their test images with it, since a model that is tested on people it was
trained on looks better than it is.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_mspac.data.image_set import ImageSet
from jax_mspac.errors import UserError
from jax_mspac.runtime.files import write_whole

FILE = "provenance.json"
_SHOWN = 5


def record(
    image_set: ImageSet, *, data: Mapping[str, Any], splits: Sequence[str], weights: str, command: Sequence[str] = ()
) -> dict[str, Any]:
    """The record of a run.

    Args:
      image_set: the training images.
      data: the fields of `config.data`.
      splits: the splits that are trained on.
      weights: of `model.pretrained`.
      command: the words of the command that began the run.
    """
    return {
        "command": list(command),
        "weights": _weights(weights),
        "data": {name: _plain(value) for name, value in data.items()},
        "splits": list(splits),
        "identities": list(image_set.identity_names),
        "images": len(image_set),
        "digest": digest(image_set),
        "image_digests": sorted(_digests(image_set)),
    }


def digest(image_set: ImageSet) -> str:
    """Changes with any image, its path, identity, camera or modality."""
    total = hashlib.sha256()
    for image, path in zip(image_set.images, image_set.paths, strict=True):
        total.update(hashlib.sha256(image).digest() + path.encode())
    for labels in (image_set.identities, image_set.cameras, image_set.modalities):
        total.update(np.ascontiguousarray(labels).tobytes())
    total.update("\0".join(image_set.identity_names).encode())
    return total.hexdigest()


def read(workdir: pathlib.Path) -> dict[str, Any] | None:
    """The record of a run, or None where there is none that can be read."""
    try:
        found = json.loads((workdir / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "image_digests" in found else None


def keep(workdir: pathlib.Path, new: Mapping[str, Any], *, resumes: bool) -> None:
    """Writes the record of a run that begins; compares that of a run that resumes.

    Raises:
      UserError: the run was begun on other training images.
    """
    old = read(workdir) if resumes else None
    if old is None:
        write_whole(workdir / FILE, json.dumps(new, indent=1) + "\n")
        return
    if old["digest"] == new["digest"]:
        return
    gone, come = (sorted(set(a["identities"]) - set(b["identities"])) for a, b in ((old, new), (new, old)))
    changes = [
        f"{len(names)} identities {what} ({_some(names)})" for what, names in (("gone", gone), ("new", come)) if names
    ]
    raise UserError(
        f"{workdir}: the training images are not those that the run was begun on: {old['images']} images of "
        f"{len(old['identities'])} identities then, {new['images']} of {len(new['identities'])} now"
        + (f"; {', '.join(changes)}" if changes else "; files or labels have changed")
        + ". Give the data back as it was, or start in a new --workdir"
    )


def seen(trained: Mapping[str, Any], image_set: ImageSet, *, data: Mapping[str, Any]) -> list[str]:
    """The identities of a test set that a run was trained on, ascending.

    They are those of an image that was trained on, byte by byte, and, in the same source, those of the same name.

    Args:
      trained: the record of the run.
      image_set: the test images.
      data: the fields of `config.data` of the test images.
    """
    known = set(trained["image_digests"])
    ranks = {int(rank) for rank, one in zip(image_set.identities, _digests(image_set), strict=True) if one in known}
    found = {image_set.identity_names[rank] for rank in ranks}
    if _source(data) and _source(data) == _source(trained["data"]):
        found |= set(image_set.identity_names) & set(trained["identities"])
    return sorted(found)


def check_unseen(workdir: pathlib.Path, image_set: ImageSet, *, data: Mapping[str, Any], allowed: bool) -> list[str]:
    """Checks that a run is tested on people it was not trained on; what a reader must know where that is allowed.

    Raises:
      UserError: it was trained on some of them, and that is not allowed.
    """
    trained = read(workdir)
    if trained is None:
        return [f"{FILE} is missing: nothing tells whether the model was trained on these people."]
    names = seen(trained, image_set, data=data)
    if not names:
        return []
    count = f"{len(names)} of {image_set.num_identities} test identities"
    if not allowed:
        raise UserError(
            f"{workdir} was trained on {count} ({_some(names)}), so its scores on them say nothing about new people. "
            "Give the config.data of the run (trial, fold, seed, test identities), or, to score them all the same, "
            "--config.eval.allow_trained_identities=True"
        )
    return [f"The model was trained on {count}: these scores say nothing about new people."]


def _digests(image_set: ImageSet) -> list[str]:
    return [hashlib.sha256(image).hexdigest()[:16] for image in image_set.images]


def _source(data: Mapping[str, Any]) -> tuple[str, str] | None:
    """The data set and the folder of its images, or None for a set without one."""
    source = data.get("source")
    return (data["name"], os.path.realpath(os.path.expanduser(source))) if source else None


def _weights(spec: str) -> dict[str, str]:
    if not os.path.isfile(spec):
        return {"from": spec}
    with open(spec, "rb") as file:
        return {"from": spec, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
