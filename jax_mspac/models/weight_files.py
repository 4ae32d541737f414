"""Files of weights from elsewhere: finding or downloading them, and reading their named tensors."""

import codecs
import io
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.runtime.files import write_whole

HUB = "hf://"
# Where checkpoints keep their state_dict.
_NESTS = ("net", "state_dict", "model", "model_state_dict", "network")
_WRAPPED = "module."


def resolve(spec: str) -> Path:
    """Finds the weights file that `spec` names, downloading it if need be.

    That is a path, or hf://OWNER/NAME[@REVISION] for model.safetensors of a Hugging Face Hub model, which is kept in
    that library's cache.

    Raises:
      UserError: if the file does not exist or cannot be downloaded.
    """
    by_hand = (
        "give a file with model.pretrained=/path/model.safetensors, or start from scratch with model.pretrained=none"
    )
    if not spec.startswith(HUB):
        path = Path(spec).expanduser()
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
    """Reads named tensors of .safetensors, .npz, or .pth / .pt / .t (which need torch); never runs code of a file.

    A file of torch may also be a checkpoint that holds the tensors beside other things, under one of `_NESTS`. Where
    all names begin with "module.", as `DataParallel` writes them, they lose that.

    Raises:
      UserError: the suffix is unknown, torch is missing, or the file is not there, is not whole or of another format,
        or holds no tensors or also Python objects.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], dict[str, np.ndarray]]]
    readers = {".safetensors": _load_safetensors, ".npz": _load_npz}
    readers |= dict.fromkeys((".pth", ".pt", ".t"), _load_torch)
    if path.suffix not in readers:
        raise UserError(f"{path}: weights files end in one of {', '.join(readers)}")
    try:
        tensors = readers[path.suffix](path)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: cannot be read: there is no such file") from None
    except Exception as error:  # a damaged file breaks each reader in many ways
        raise UserError(
            f"{path}: cannot be read as a {path.suffix} file of tensors: it is cut short, altered, or of another format"
        ) from error
    if tensors and all(name.startswith(_WRAPPED) for name in tensors):
        tensors = {name.removeprefix(_WRAPPED): value for name, value in tensors.items()}
    return tensors


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _load_torch(path: Path) -> dict[str, np.ndarray]:
    torch = _torch(path)
    try:
        # Scores that a training script keeps beside the weights are often scalars or arrays of numpy.
        with torch.serialization.safe_globals(_numpy_globals()):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if objects := re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(error)):
            raise UserError(
                f"{path}: holds Python objects ({objects[1]}), which may run code when they are read, and not only "
                "tensors; where it was made, keep the tensors alone: torch.save(net.state_dict(), FILE)"
            ) from None
        raise
    nests = [found, *(found.get(name) for name in _NESTS)] if isinstance(found, Mapping) else []
    for nest in nests:
        if isinstance(nest, Mapping) and any(isinstance(value, torch.Tensor) for value in nest.values()):
            return {name: value.float().numpy() for name, value in nest.items() if isinstance(value, torch.Tensor)}
    held = f"a mapping of {', '.join(map(str, found)) or 'nothing'}" if nests else f"a {type(found).__name__}"
    raise UserError(
        f"{path}: holds no named tensors but {held}; expected a state_dict, by itself or under one of "
        f"{', '.join(_NESTS)}"
    )


def save_torch(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Writes a checkpoint for torch.

    Args:
      path: of the file; its folder is made if it is missing.
      checkpoint: name -> value, mappings among them; arrays become tensors.

    Raises:
      UserError: torch is missing.
    """
    torch = _torch(path)

    def for_torch(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: for_torch(each) for name, each in value.items()}
        return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value

    buffer = io.BytesIO()
    torch.save(for_torch(checkpoint), buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())


def _torch(path: Path) -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: {path.suffix} files need torch: pip install torch, or another program that makes "
            ".safetensors of them"
        ) from error
    return torch


def _load_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _numpy_globals() -> list[Any]:
    """What numpy's scalars and arrays are pickled as, by either generation of numpy; none of it runs other code."""
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    makers: list[Any] = [value.__reduce__()[0] for value in (np.float64(0), np.zeros(1))]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    named = [(maker, f"{module}.{maker.__name__}") for module in modules for maker in makers]
    return [np.dtype, np.ndarray, *kinds, codecs.encode, *named]
