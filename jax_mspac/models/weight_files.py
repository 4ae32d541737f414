"""Files of weights from elsewhere: finding or downloading them, and reading their named tensors."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from jax_mspac.errors import UserError

HUB = "hf://"


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
    """Reads a file of named tensors, .safetensors, .npz, or .pth / .pt (which needs torch); never runs code from it.

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
