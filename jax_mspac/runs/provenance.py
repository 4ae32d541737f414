"""What a run was made from: whom it was trained on, which weights it started from, which command began it.

The record lies in the run's folder and answers without the data at hand. Resuming compares the training images with it;
evaluation and reports compare their test images, because a model looks better on people it was trained on.
"""

import hashlib
import json
import os
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_mspac.data.image_set import ImageSet
from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES
from jax_mspac.models import weight_files
from jax_mspac.runtime.files import write_whole

FILE = "provenance.json"
_SHOWN = 5

Record = dict[str, Any]


def record(train: ImageSet, test: ImageSet, *, data: Mapping[str, Any], weights: str) -> Record:
    """The record of a run.

    Args:
      train: the training images.
      test: the test images.
      data: the fields of `config.data`.
      weights: `config.model.pretrained`.
    """
    weights = os.path.expanduser(weights)
    of_run = os.path.isdir(weights)
    before = read(pathlib.Path(weights)) if of_run else None
    # Of a model that starts from weights of unknown people not all is known either.
    doubt = {"unknown": unknown(before)} if of_run and unknown(before) else {}
    return {
        "command": shlex.join(sys.argv),
        "weights": {"from": weights} | doubt if of_run else _origin(weights),
        "source": _source(data),
        "train": {**summary(train), "splits": list(data["train_splits"]), "names": list(train.identity_names)},
        "test": summary(test),
        # Those that the weights were trained on count as well.
        "image_digests": sorted({*train.digests, *(before["image_digests"] if before else ())}),
    }


def imported(weights: pathlib.Path) -> Record:
    """The record of a model from a file of another program: of its training nothing is known."""
    return {
        "command": shlex.join(sys.argv),
        "weights": _origin(str(weights)),
        "source": [],
        "train": None,
        "test": None,
        "image_digests": [],
    }


def unknown(record: Record | None) -> str:
    """Why nobody knows whether a model was trained on some people, as a sentence; "" if the record tells."""
    end = "whether the model was trained on these people is not known."
    if record is None:
        return f"{FILE} is missing: {end}"
    if record["train"] is None:
        return f"The weights are converted from {record['weights']['from']}: {end}"
    return record["weights"].get("unknown", "")


def summary(image_set: ImageSet) -> Record:
    """Counts, and a digest that changes with any image, its path, identity, camera or modality."""
    digest = hashlib.sha256("\0".join((*image_set.identity_names, *image_set.paths, *image_set.digests)).encode())
    for labels in (image_set.identities, image_set.cameras, image_set.modalities):
        digest.update(np.ascontiguousarray(labels).tobytes())
    return {"images": len(image_set), "identities": image_set.num_identities, "digest": digest.hexdigest()}


def read(workdir: pathlib.Path) -> Record | None:
    """The record of a run, or None if the folder has none.

    Raises:
      UserError: it is damaged.
    """
    path = workdir / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        _ = found["weights"]["from"], found["image_digests"]
        if found["train"] is not None:
            _ = found["train"]["digest"], found["train"]["names"], found["test"]["digest"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); copy it again from where it came from") from None
    return found


def resumed(workdir: pathlib.Path, train: ImageSet) -> Record | None:
    """The record of a run that resumes, which must have the training images that it began with.

    Raises:
      UserError: it has others.
    """
    old = read(workdir)
    if old is None:
        return None
    if old["train"] is None:
        raise UserError(
            f"{workdir} holds a model that was converted from {old['weights']['from']}, and no training to go on with: "
            f"start from it in a new --workdir, with --config.model.pretrained={workdir}"
        )
    new = summary(train)
    if old["train"]["digest"] == new["digest"]:
        return old
    then, now = set(old["train"]["names"]), set(train.identity_names)
    changes = [
        f"{len(names)} identities {what} ({_some(sorted(names))})"
        for what, names in (("gone", then - now), ("new", now - then))
        if names
    ] or ["files or labels have changed"]
    counts = (f"{one['images']} images of {one['identities']} identities" for one in (old["train"], new))
    raise UserError(
        f"{workdir}: the training images are not those that the run began with: {' then, '.join(counts)} now; "
        f"{', '.join(changes)}. Give the data back as it was, or start in a new --workdir"
    )


def keep(workdir: pathlib.Path, new: Record) -> None:
    """Writes the record of a run that begins."""
    write_whole(workdir / FILE, json.dumps(new, indent=1) + "\n")


def seen(trained: Record | None, image_set: ImageSet, *, data: Mapping[str, Any]) -> list[str]:
    """The test identities that a run was trained on, ascending.

    Those are the ones half of whose images, byte by byte, were trained on, or half of those of one modality: simulated
    infrared may follow another law than it did in training. And those of the same name in the same source. A single
    image may lie in a data set twice, and so it is two or more of one modality.

    Args:
      trained: the record of the run; None if there is none.
      image_set: the test images.
      data: the fields of `config.data` that they come from.
    """
    if trained is None:
        return []
    known = np.isin(image_set.digests, trained["image_digests"])
    of_modalities = [(image_set.modalities == modality, 2) for modality in range(len(MODALITIES))]
    found = set()
    for chosen, least in ((np.ones(len(known), bool), 1), *of_modalities):
        counts, hits = (
            np.bincount(image_set.identities, of, image_set.num_identities) for of in (chosen, chosen & known)
        )
        enough = (hits >= least) & (hits >= counts / 2)
        found |= {name for name, is_known in zip(image_set.identity_names, enough, strict=True) if is_known}
    if trained["source"] and trained["source"] == _source(data):
        found |= set(image_set.identity_names) & set(trained["train"]["names"])
    return sorted(found)


def check_unseen(names: Sequence[str], image_set: ImageSet, *, trained_in: str | os.PathLike, allowed: bool) -> None:
    """Checks that a model is not tested on people that it was trained on.

    Args:
      names: the trained ones among the test identities, see `seen`.
      image_set: the test images.
      trained_in: folder of the run.
      allowed: whether the user has asked for it.

    Raises:
      UserError: it was trained on some of them, and that is not allowed.
    """
    if names and not allowed:
        raise UserError(
            f"{trained_in} was trained on {len(names)} of the {image_set.num_identities} test identities "
            f"({_some(names)}), so its scores on them say nothing about new people. Give the config.data of the run "
            "(trial, fold, seed, test identities), or set --config.eval.allow_trained_identities=True"
        )


def _source(data: Mapping[str, Any]) -> list[str]:
    """The data set and the folder of its images; empty for a set without one."""
    source = data.get("source")
    return [data["name"], os.path.realpath(os.path.expanduser(source))] if source else []


def _origin(weights: str) -> Record:
    if weights == "none":
        return {"from": weights}
    with weight_files.resolve(weights).open("rb") as file:
        return {"from": weights, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
