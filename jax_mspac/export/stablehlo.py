"""A model as a StableHLO program: one file for CPUs, NVIDIA GPUs and TPUs, with the weights in it."""

import hashlib
import json
import pathlib

import jax
import numpy as np
from jax import export, lax

from jax_mspac.export import program
from jax_mspac.export.source import Source
from jax_mspac.modalities import INFRARED, VISIBLE

PLATFORMS = ("cpu", "cuda", "tpu")


def write(source: Source, folder: pathlib.Path) -> None:
    """Writes the program and the JSON file that describes it into a folder.

    The program takes images and a flag, whether they are infrared, and holds layers that both modalities share once.
    The size of the batch is open. Both forms of what CPUs compute in another way are in it: see `kernels.platforms`.

    Raises:
      UserError: the method has no network.
    """
    function = source.function()

    def embed(images: jax.Array, infrared: jax.Array) -> jax.Array:
        return lax.cond(infrared, lambda x: function(x, INFRARED), lambda x: function(x, VISIBLE), images)

    height, width = source.experiment.image_size
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, height, width, 3), np.uint8)
    exported = export.export(jax.jit(embed), platforms=PLATFORMS)(images, jax.ShapeDtypeStruct((), np.bool_))
    serialized = bytes(exported.serialize())
    description = source.description("stablehlo")
    description["program"] = {
        "file": program.FILE,
        "sha256": hashlib.sha256(serialized).hexdigest(),
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
        "arguments": ["images: uint8 [batch, height, width, 3]", "infrared: bool []"],
        "results": ["features: float32 [batch, dimensions]"],
        "call": "jax.export.deserialize(bytearray(file.read())).call(images, infrared)",
    }
    (folder / program.FILE).write_bytes(serialized)
    (folder / program.DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
