"""A trained model as a Python object."""

import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jax_mspac.data.image_set import digest_of
from jax_mspac.data.images import parsed_range, read_rgb, resize
from jax_mspac.errors import UserError
from jax_mspac.evaluation.evaluator import Embed
from jax_mspac.methods.learned import Learned
from jax_mspac.metrics.distances import unit
from jax_mspac.modalities import MODALITIES
from jax_mspac.runs import hub, provenance
from jax_mspac.runs.checkpoints import FOLDER
from jax_mspac.runs.experiment import Experiment
from jax_mspac.runtime import parallel

# A path, an image of PIL, or an array: uint8 [H, W, 3], or gray uint8 or uint16 [H, W].
AnImage = str | pathlib.Path | Image.Image | np.ndarray


class Model:
    """A trained model that embeds images; `load` returns one.

    Attributes:
      config: of the training run.
      workdir: its folder.
      step: of the checkpoint.
      variables: parameters and BatchNorm statistics.
      provenance: what it was trained on, see `runs.provenance.record`; None if the run has no such record.
    """

    def __init__(self, experiment: Experiment, step: int, variables: Any):
        self.config = experiment.config
        self.workdir = experiment.folder
        self.step = step
        self.variables = parallel.replicate(variables)
        self.provenance = provenance.read(experiment.folder)
        self._experiment = experiment
        self._embed = experiment.embed()
        self._range = parsed_range(self.config.data.get("range_16_bit", ""))

    def embed(
        self,
        images: AnImage | Iterable[AnImage],
        modality: str,
        *,
        feature: str | None = None,
        batch: int = 64,
    ) -> np.ndarray:
        """L2-normalized features: the dot product of two features is the cosine similarity of their images.

        Args:
          images: one image or several, of any size: paths of image files, PIL images, or uint8 arrays [H, W, 3] or
            [H, W]. Gray arrays may be uint16; `data.images.read_rgb` scales them. Also uint8 [N, H, W, 3].
          modality: "visible" or "infrared", of all images.
          feature: "before_neck", "after_neck" or one of `eval.joined`; default: that of the run's primary metric.
          batch: the number of images embedded at a time.

        Returns:
          float32 [N, D]; N is 1 for one image.

        Raises:
          UserError: an image cannot be read or has no pixels, or the modality, the feature or the batch is not valid.
        """
        given: Any = images
        one = isinstance(given, str | pathlib.Path | Image.Image) or getattr(given, "ndim", 0) in (2, 3)
        listed = [given] if one else list(given)

        def prepared(some: list[AnImage]) -> np.ndarray:
            return np.stack([self._prepare(image) for image in some])

        return self._features(self._embed, listed, prepared, modality, feature, batch)

    def embed_normalized(
        self, images: np.ndarray, modality: str, *, feature: str | None = None, batch: int = 64
    ) -> np.ndarray:
        """Like `embed`, for pixels that the caller has resized and normalized.

        Args:
          images: float32 [N, H, W, 3] of the model's size. `embed` takes RGB in [0, 1], subtracts the mean of ImageNet
            and divides by its standard deviation.
          modality: see `embed`.
          feature: see `embed`.
          batch: see `embed`.

        Raises:
          UserError: the images have another type or size or are not finite, or the method does not take normalized
            pixels; see also `embed`.
        """
        height, width = self.config.data.height, self.config.data.width
        images = np.asarray(images)
        if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != (height, width, 3):
            expected = f"normalized float32 [N, {height}, {width}, 3]"
            raise UserError(f"images are {images.dtype} {list(images.shape)}; expected {expected}")
        if not np.isfinite(images).all():
            raise UserError("images hold values that are not finite")
        if not isinstance(self._experiment.method(), Learned):
            raise UserError(f"{self.config.method} computes with the bytes of images: call embed")
        return self._features(self._embed_normalized, images, np.asarray, modality, feature, batch)

    @functools.cached_property
    def _embed_normalized(self) -> Embed:
        return self._experiment.embed(normalized=True)

    def _features(
        self,
        embed: Embed,
        images: Sequence[Any] | np.ndarray,
        prepared: Callable[[Any], np.ndarray],
        modality: str,
        feature: str | None,
        batch: int,
    ) -> np.ndarray:
        if modality not in MODALITIES:
            raise UserError(f"modality is {modality!r}; expected {' or '.join(map(repr, MODALITIES))}")
        if batch < 1:
            raise UserError(f"batch is {batch}; expected 1 or more images at a time")
        feature = feature or self.config.eval.feature
        features = []
        for start in range(0, len(images), batch):
            outputs = embed(self.variables, prepared(images[start : start + batch]), modality)
            if feature not in outputs:
                raise UserError(f"feature is {feature!r}; expected one of {', '.join(outputs)}")
            features.append(outputs[feature])
        if not features:
            raise UserError("no images to embed: expected at least one")
        return unit(np.concatenate(features))

    def trained_on(self, files: Sequence[str | pathlib.Path]) -> np.ndarray:
        """Whether the model was trained on each of these image files, compared byte for byte: bool [N].

        Raises:
          UserError: the run has no record of its training images, or a file cannot be read.
        """
        if self.provenance is None or self.provenance["train"] is None:
            raise UserError(provenance.unknown(self.provenance))
        try:
            digests = [digest_of(pathlib.Path(file).read_bytes()) for file in files]
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None
        return np.isin(digests, self.provenance["image_digests"])

    def _prepare(self, image: AnImage) -> np.ndarray:
        if isinstance(image, np.ndarray):
            rgb = image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3
            gray = image.dtype in (np.uint8, np.uint16) and image.ndim == 2
            if not (rgb or gray) or not image.size:
                raise UserError(
                    f"an image is {image.dtype} {list(image.shape)}; expected uint8 [height, width, 3], or gray uint8 "
                    "or uint16 [height, width], with at least one pixel"
                )
            pixels = image if rgb else read_rgb(Image.fromarray(image), self._range)
        elif isinstance(image, str | pathlib.Path | Image.Image):
            pixels = read_rgb(image, self._range)
        else:
            raise UserError(f"an image is a {type(image).__name__}; expected a path, an image of PIL or a numpy array")
        return resize(pixels, self.config.data.height, self.config.data.width)


def load(workdir: str | pathlib.Path, checkpoint: str = "latest") -> Model:
    """Restores a trained model.

    Args:
      workdir: folder of a training run, a folder that `jax_mspac.export` has written as safetensors, or
        hf://OWNER/NAME[@REVISION], a model of the Hugging Face Hub.
      checkpoint: "latest", "best" or a step.

    Raises:
      UserError: there is no such run or checkpoint, the folder is one of several runs, or the model cannot be
        downloaded.
    """
    experiment = opened(workdir)
    return Model(experiment, *experiment.restore(str(checkpoint)))


def opened(workdir: str | pathlib.Path) -> Experiment:
    """The experiment of a model by any of the names that `load` takes; it raises as `load` does."""
    workdir = hub.fetched(str(workdir)) if hub.names_one(workdir) else pathlib.Path(workdir).expanduser()
    if workdir.is_file():
        raise UserError(f"{workdir} is a file; expected the folder of a training run")
    runs = sorted(folder.parent for folder in workdir.glob(f"*/{FOLDER}"))
    if runs and not (workdir / FOLDER).exists():
        names = ", ".join(run.name for run in runs)
        raise UserError(f"{workdir} holds several runs ({names}); load one of them, such as {runs[0]}")
    return Experiment.opened(workdir)
