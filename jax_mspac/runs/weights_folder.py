"""A model without its run: config.json and model.safetensors in a folder, which opens as the folder of a run does.

The tensors are the arrays that embedding needs, under their paths such as embedder/params/neck/scale, bit for bit.
"""

import pathlib
from typing import Any

import jax
import numpy as np

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.runs import integrity
from jax_mspac.runtime.files import write_whole

PyTree = Any

FILE = "model.safetensors"
# In the header of the file, which other programs' files lack.
_FORMAT = "jax_mspac"


def is_one(folder: pathlib.Path) -> bool:
    """Whether a folder holds such a model."""
    return (folder / FILE).is_file()


def save(folder: pathlib.Path, step: int, variables: PyTree) -> None:
    """Writes the variables of a step, numpy arrays, to the model's file in a folder."""
    from safetensors.numpy import save as serialized

    tensors = {name: np.ascontiguousarray(leaf) for name, leaf in _named(variables).items()}
    header = {"format": _FORMAT, "jax_mspac": jax_mspac.__version__, "step": str(step)}
    write_whole(folder / FILE, serialized(tensors, metadata=header))


def restore(folder: pathlib.Path, which: str, like: PyTree) -> tuple[int, PyTree]:
    """The step and the variables, as numpy arrays.

    Args:
      folder: of the model.
      which: "latest", or its step: there is one checkpoint only.
      like: variables with the expected shapes and dtypes.

    Raises:
      UserError: the file is damaged or of another program or model, or that names no checkpoint of it.
    """
    path = folder / FILE
    step, tensors = _read(path)
    if which not in ("latest", str(step)):
        raise UserError(
            f"checkpoint {which!r}: {folder} holds one checkpoint, of step {step}; expected 'latest' or {step}"
        )
    saved = integrity.shapes(tensors)
    if differing := integrity.differences(saved, integrity.shapes(like)):
        raise UserError(f"{path} is of another model than config.json beside it:\n" + "\n".join(differing))
    return step, jax.tree.unflatten(jax.tree.structure(like), [tensors[name] for name in _named(like)])


def _read(path: pathlib.Path) -> tuple[int, dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                raise UserError(
                    f"{path} is no model of jax_mspac but of another program. As weights to start a training from: "
                    f"--config.model.pretrained={path}"
                )
            return int(header["step"]), {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, KeyError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{path} is damaged ({reason}); copy it again from where it came from") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _named(tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
