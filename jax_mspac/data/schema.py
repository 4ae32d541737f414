"""What every data set stores for one image."""

import io
import os
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jax_mspac.modalities import MODALITIES


def features() -> tfds.features.FeaturesDict:
    """The features of one example: encoded image, identity, camera, modality and source path."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "identity": tfds.features.Text(),
            "camera": tfds.features.Scalar(dtype=np.int32),
            "modality": tfds.features.ClassLabel(names=MODALITIES),
            "path": tfds.features.Text(),
        }
    )


def example(*, image: bytes, identity: str, camera: int, modality: str, path: str | os.PathLike) -> dict[str, Any]:
    """One example from the bytes of a JPEG or PNG file with three 8-bit channels.

    Args:
      image: encoded image; stored as it is.
      identity: name of the person; names sort in label order, so numbers are zero-padded.
      camera: camera number, 1 or more.
      modality: "visible" or "infrared".
      path: source of the image, relative to the data set's root.
    """
    return {
        "image": io.BytesIO(image),
        "identity": identity,
        "camera": camera,
        "modality": modality,
        "path": os.fspath(path),
    }
