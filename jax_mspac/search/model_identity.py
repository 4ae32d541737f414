"""Which model features are of: features of different models do not compare."""

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from jax_mspac.errors import UserError

if TYPE_CHECKING:
    from jax_mspac.runs.inference import Model

# What an index keeps of its model: JSON values.
Identity = dict[str, Any]


def of(model: "Model") -> Identity:
    """The digest of all that a model's features depend on, and where the model is from.

    The digest is of the parameters, and of the settings that say what is computed with them. So the same checkpoint in
    another folder is the same model, and one step of training makes it another.
    """
    import jax  # with the systems it takes seconds to import, and what compares identities goes without

    from jax_mspac import methods

    config, digest = model.config, hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.variables):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    settings = {name: config[name].to_dict() for name in ("model", *methods.sections()) if name in config}
    settings |= {"method": config.method, "feature": config.eval.feature, "flip": config.eval.flip}
    settings |= {name: config.data.get(name, "") for name in ("height", "width", "range_16_bit")}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return {
        "digest": digest.hexdigest(),
        "method": config.method,
        "feature": config.eval.feature,
        "workdir": os.path.abspath(model.workdir),
        "step": model.step,
    }


def check_same(index: Identity, model: Identity, *, dimensions: int) -> None:
    """Raises a UserError where a model is not the one that an index of `dimensions` numbers was embedded by."""
    if index["digest"] != model["digest"]:
        raise UserError(
            f"{told(model)} is not the model of this index, whose {dimensions} numbers per image are of {told(index)}: "
            "features of two models do not compare. Take that model, or add the images to a new index"
        )


def told(identity: Identity) -> str:
    """A model in words."""
    return f"{identity['workdir']} (step {identity['step']}, digest {identity['digest'][:12]})"
