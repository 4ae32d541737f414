"""A trained model as a Python object."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jax_mspac.data.images import read_rgb, resize
from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES
from jax_mspac.runs import provenance
from jax_mspac.runs.checkpoints import FOLDER
from jax_mspac.runs.experiment import Experiment, unit
from jax_mspac.runtime import parallel


class Model:
    """A trained model that embeds images. Made by `load`.

    Attributes:
      config: of the training run.
      step: of the checkpoint.
      variables: parameters and BatchNorm statistics.
      provenance: whom it was trained on, see `runs.provenance.record`; None where the run has no such record.
    """

    def __init__(self, experiment: Experiment, step: int, variables: Any):
        self.config = experiment.config
        self.step = step
        self.variables = parallel.replicate(variables)
        self.provenance = provenance.read(experiment.workdir)
        self._embed = experiment.embed()

    def embed(
        self,
        images: np.ndarray | Sequence[np.ndarray | str | pathlib.Path],
        modality: str,
        *,
        feature: str | None = None,
        batch: int = 64,
    ) -> np.ndarray:
        """L2-normalized features: the cosine of two images is the product of their features.

        Args:
          images: uint8 [N, H, W, 3], or a sequence of uint8 arrays [H, W, 3] of any sizes or of paths of image files.
          modality: "visible" or "infrared", of all images.
          feature: "before_neck" or "after_neck"; default: the one that the run's primary reports.
          batch: images at a time.

        Returns:
          float32 [N, D].

        Raises:
          UserError: a file cannot be read, or the modality or the feature does not exist.
        """
        if modality not in MODALITIES:
            raise UserError(f"modality is {modality!r}; expected {' or '.join(map(repr, MODALITIES))}")
        feature = feature or self.config.eval.feature
        features = []
        for start in range(0, len(images), batch):
            prepared = np.stack([self._prepare(image) for image in images[start : start + batch]])
            outputs = self._embed(self.variables, prepared, modality)
            if feature not in outputs:
                raise UserError(f"feature is {feature!r}; expected one of {', '.join(outputs)}")
            features.append(outputs[feature])
        if not features:
            raise UserError("no images to embed: expected at least one")
        return unit(np.concatenate(features))

    def trained_on(self, files: Sequence[str | pathlib.Path]) -> np.ndarray:
        """Whether the model was trained on image files, byte for byte: bool [N].

        Raises:
          UserError: the run has no record of its training images, or a file cannot be read.
        """
        if self.provenance is None:
            raise UserError(f"the run has no {provenance.FILE}: nobody knows what the model was trained on")
        try:
            digests = [provenance.digest_of(pathlib.Path(file).read_bytes()) for file in files]
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None
        return np.isin(digests, self.provenance["image_digests"])

    def _prepare(self, image: np.ndarray | str | pathlib.Path) -> np.ndarray:
        pixels = read_rgb(image) if isinstance(image, str | pathlib.Path) else np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
            raise UserError(f"an image is {pixels.dtype} {list(pixels.shape)}; expected uint8 [height, width, 3]")
        return resize(pixels, self.config.data.height, self.config.data.width)


def load(workdir: str | pathlib.Path, checkpoint: str = "latest") -> Model:
    """Restores a trained model.

    Args:
      workdir: folder of a training run.
      checkpoint: "latest", "best" or a step.

    Raises:
      UserError: there is no such run or checkpoint, or the folder is one of several runs.
    """
    workdir = pathlib.Path(workdir)
    runs = sorted(folder.parent for folder in workdir.glob(f"*/{FOLDER}"))
    if runs and not (workdir / FOLDER).exists():
        names = ", ".join(run.name for run in runs)
        raise UserError(f"{workdir} holds several runs ({names}); load one of them, such as {runs[0]}")
    experiment = Experiment.opened(workdir)
    return Model(experiment, *experiment.restore(str(checkpoint)))
