"""Runs a StableHLO program of a model. Of this package it needs no network, method or config."""

import functools
import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.modalities import INFRARED, MODALITIES

FILE, DESCRIPTION = "model.stablehlo", "model.stablehlo.json"


class Program:
    """A model that embeds images of its size. Made by `load`.

    Attributes:
      description: what the program takes and gives, its date and its versions.
    """

    def __init__(self, serialized: bytes, description: dict[str, Any]):
        self.description = description
        self._call = jax.jit(jax.export.deserialize(bytearray(serialized)).call)

    @functools.cached_property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        _, height, width, _ = self.description["input"]["shape"]
        return height, width

    def embed(self, images: np.ndarray, modality: str) -> np.ndarray:
        """Features of unit length: float32 [N, D]. It is compiled for each N.

        Args:
          images: uint8 [N, H, W, 3], RGB, of `image_size`; they are normalized by the program.
          modality: "visible" or "infrared", of all images.

        Raises:
          UserError: the images are of another type or size, or the modality is none.
        """
        if modality not in MODALITIES:
            raise UserError(f"modality is {modality!r}; expected {' or '.join(map(repr, MODALITIES))}")
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (*self.image_size, 3) or not len(images):
            expected = f"uint8 [N, {self.image_size[0]}, {self.image_size[1]}, 3] with at least one image"
            raise UserError(f"images are {images.dtype} {list(images.shape)}; expected {expected}")
        return np.asarray(self._call(images, np.bool_(modality == INFRARED)))


def load(folder: str | pathlib.Path) -> Program:
    """The program that `python -m jax_mspac.export --to stablehlo` has written.

    Args:
      folder: of both files.

    Raises:
      UserError: a file is missing or damaged, or is of a newer JAX.
    """
    folder = pathlib.Path(folder).expanduser()
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        serialized = (folder / FILE).read_bytes()
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; expected {FILE} and {DESCRIPTION} in {folder}") from None
    except ValueError as error:
        raise UserError(f"{folder / DESCRIPTION} is damaged ({error}); copy it again from where it came from") from None
    if hashlib.sha256(serialized).hexdigest() != description["program"]["sha256"]:
        raise UserError(f"{folder / FILE} is damaged or of another export than {DESCRIPTION}; copy both again")
    try:
        return Program(serialized, description)
    except Exception as error:  # whatever its readers make of a format that they do not know
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{folder / FILE} cannot be read by JAX {jax.__version__} ({reason}); it was written on "
            f"{description['date']} by JAX {description['versions']['jax']}: install that one or a newer one"
        ) from error
