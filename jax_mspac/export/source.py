"""The model that is exported: as a function of pixels alone, and as data that say what it takes and gives."""

import dataclasses
import datetime
import importlib.metadata
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jax_mspac
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.evaluation.evaluator import embedding
from jax_mspac.losses.distances import unit
from jax_mspac.methods import augmentation
from jax_mspac.methods.base import Trained
from jax_mspac.modalities import MODALITIES
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.runs import inference
from jax_mspac.runs.experiment import Experiment

PyTree = Any
# (images uint8 [N, H, W, 3], modality) -> float32 [N, D].
Function = Callable[[jax.Array, str], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A checkpoint of a run: what is exported.

    Attributes:
      experiment: of the run.
      step: of the checkpoint.
      variables: numpy arrays.
    """

    experiment: Experiment
    step: int
    variables: PyTree

    @classmethod
    def opened(cls, model: str, checkpoint: str = "latest") -> "Source":
        """The model of any of the names that `jax_mspac.load` takes; it raises as that does."""
        experiment = inference.opened(model)
        return cls(experiment, *experiment.restore(checkpoint))

    @property
    def folder(self) -> pathlib.Path:
        return self.experiment.folder

    def function(self, **settings: str) -> Function:
        """Features of unit length, the one that the run's primary reports: what `Model.embed` does to resized images.

        Args:
          **settings: fields of `config.model` that do not touch the parameters, to compute otherwise; those that the
            backbone has.

        Raises:
          UserError: the method has no network.
        """
        config = self.experiment.config.copy_and_resolve_references()
        backbone = BACKBONES[config.model.backbone]
        config.model.update({name: value for name, value in settings.items() if backbone.takes(name)})
        method = methods.build(config, num_identities=1)
        if not isinstance(method, Trained):
            raise UserError(
                f"{config.method} has no network but computes with numpy, which this form cannot hold: "
                "--to safetensors hands it on"
            )
        evaluation = self.experiment.evaluation
        embed = embedding(method, flip=evaluation.flip, joined=evaluation.joins)
        return lambda images, modality: unit(embed(self.variables, images, modality)[config.eval.feature])

    def images(self, count: int, seed: int = 0) -> np.ndarray:
        """Images of noise, uint8 [count, H, W, 3] of the model's size, to compare two forms of the model by."""
        shape = (count, *self.experiment.image_size, 3)
        return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)

    def description(self, form: str) -> dict[str, Any]:
        """What a program that has the exported file alone must know: JSON values."""
        config = self.experiment.config
        height, width = self.experiment.image_size
        images = jax.ShapeDtypeStruct((1, height, width, 3), np.uint8)
        dimensions = jax.eval_shape(lambda x: self.function()(x, MODALITIES[0]), images).shape[-1]
        names = ("jax", "jaxlib", "flax", "numpy")
        return {
            "format": f"jax_mspac {form}",
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": {
                "jax_mspac": jax_mspac.__version__,
                **{name: importlib.metadata.version(name) for name in names},
            },
            "method": config.method,
            "trained_on": config.data.name,
            "step": self.step,
            "feature": config.eval.feature,
            "horizontal_flip_averaged": config.eval.flip,
            "input": {
                "name": "images",
                "dtype": "uint8",
                "shape": ["batch", height, width, 3],
                "layout": "NHWC",
                "channels": "RGB",
                "range": [0, 255],
                "normalization": {
                    "where": "inside: give the bytes of the image as they are",
                    "mean": np.ravel(augmentation.MEAN).tolist(),
                    "standard_deviation": np.ravel(augmentation.STD).tolist(),
                },
                "resize": f"before: a Lanczos filter to {height} x {width}, as jax_mspac.data.images.resize",
            },
            "output": {
                "name": "features",
                "dtype": "float32",
                "shape": ["batch", dimensions],
                "normalization": "of length 1: the cosine of two images is the product of their features",
            },
        }
