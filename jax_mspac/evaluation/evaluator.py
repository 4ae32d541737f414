"""Scores of models and baselines on one split: embed it, and search it by every protocol of its data set."""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jax_mspac.data.batches import in_order
from jax_mspac.data.image_set import ImageSet
from jax_mspac.errors import UserError
from jax_mspac.evaluation import baselines
from jax_mspac.evaluation.joined import JOINED, join
from jax_mspac.methods.base import Fitted, Method, Trained
from jax_mspac.metrics.distances import Distances, cosine_distances
from jax_mspac.metrics.reranking import POSTPROCESSING, reranked_distances
from jax_mspac.metrics.retrieval import evaluate_protocol
from jax_mspac.modalities import MODALITIES
from jax_mspac.protocols.base import DIRECTIONS, RetrievalProtocol
from jax_mspac.runtime import distributed, parallel
from jax_mspac.settings import Expected, at_least, check, one_of, setting, some_of

PyTree = Any
Embed = Callable[[PyTree, np.ndarray, str], dict[str, np.ndarray]]

_CHECKPOINT = Expected("'latest', 'best' or a step", lambda name: name in ("latest", "best") or name.isdecimal())
_JOINED = some_of(JOINED, f"names among {', '.join(JOINED)}, or () for none")
_POSTPROCESSING = some_of(POSTPROCESSING, f"names among {', '.join(POSTPROCESSING)}, or () for none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What is evaluated, when, and which of the scores is the primary metric; data sets have further fields."""

    every: int = setting(200, at_least(0, "0 (only at the end) or more steps"), "steps between evaluations in training")
    monitor_split: str = setting("val", None, "what those look at; it chooses the best checkpoint, unless 'test'")
    batch: int = setting(64, at_least(1), "images")
    checkpoint: str = setting("latest", _CHECKPOINT, "of --mode evaluate")
    feature: str = setting("after_neck", None, "of the primary metric; all features get reported")
    joined: tuple[str, ...] = setting(
        (), _JOINED, "further rows: cosines before and after the neck added, or one of both"
    )
    flip: bool = setting(False, None, "average the features of an image and of its horizontal flip")
    direction: str = setting("infrared->visible", one_of(DIRECTIONS), "of the primary metric")
    postprocessing: tuple[str, ...] = setting((), _POSTPROCESSING, "further rows, re-ranked")
    allow_trained_identities: bool = setting(False, None, "score people that were trained on, and mark every row")
    baselines: bool = setting(False, None, "report chance, raw pixels and HOG beside the model")

    def __post_init__(self) -> None:
        check(self)

    @property
    def joins(self) -> tuple[str, ...]:
        """The joined features that are reported; the primary metric's may be one without being named in `joined`."""
        return tuple(name for name in JOINED if name in self.joined or name == self.feature)


@dataclasses.dataclass(eq=False)
class Evaluator:
    """Scores models on the images of one split, searched by some protocols.

    Models see images of `image_size`, (height, width) in pixels.
    """

    image_set: ImageSet
    protocols: Sequence[RetrievalProtocol]
    settings: EvaluationSettings
    image_size: tuple[int, int]
    split: str = "test"

    @property
    def primary(self) -> RetrievalProtocol:
        """The first protocol in the primary metric's direction.

        Raises:
          UserError: the data set has none in that direction.
        """
        wanted = self.settings.direction
        listed = [protocol for protocol in self.protocols if protocol.direction == wanted]
        if not listed:
            there = ", ".join(sorted({protocol.direction for protocol in self.protocols}))
            raise UserError(f"config.eval.direction is {wanted!r}; this data set is searched {there} only")
        return listed[0]

    @property
    def fingerprint(self) -> str:
        """Tells apart what the baselines depend on: the images, their size and the primary metric's searches."""
        digest = hashlib.sha256("".join(self.image_set.digests).encode())
        for trial in self.primary.trials:
            digest.update(trial.queries.tobytes() + trial.gallery.tobytes())
        digest.update("x".join(map(str, self.image_size)).encode())
        return digest.hexdigest()

    def rows(self, features: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """Result rows of every protocol and feature: see `metrics.retrieval.evaluate_protocol`.

        After the row of a feature comes a row "feature+name" for each name in `config.eval.postprocessing`.
        """
        rows = []
        for protocol in self.protocols:
            for feature, values in features.items():
                rows.append({**self._score(cosine_distances(values), protocol), "feature": feature})
                for name in self.settings.postprocessing:
                    reranked = self._score(reranked_distances(name, values), protocol, per_trial=True)
                    rows.append({**reranked, "feature": f"{feature}+{name}"})
        return rows

    def embed(self, embed: Embed, variables: PyTree) -> dict[str, np.ndarray]:
        """Feature name -> float32 [N, D] in the order of the image set."""
        return embed_images(self.image_set, embed, variables, image_size=self.image_size, batch=self.settings.batch)

    def evaluate(self, embed: Embed, variables: PyTree) -> dict[str, Any]:
        """{"rows": all rows, "primary": the index of the one that counts}."""
        rows = self.rows(self.embed(embed, variables))
        names = {row["feature"] for row in rows}
        if self.settings.feature not in names:
            raise UserError(
                f"config.eval.feature is {self.settings.feature!r}; the model has {', '.join(sorted(names))}"
            )
        wanted = {**self.primary.labels, "feature": self.settings.feature}
        return {"rows": rows, "primary": next(i for i, row in enumerate(rows) if wanted.items() <= row.items())}

    def baselines(self) -> dict[str, dict[str, float]]:
        """Rank-1 and mAP of chance, raw pixels and HOG on the primary metric's protocol."""
        order = np.arange(len(self.image_set))
        chance = [self.baseline(baselines.random_features(len(order), seed=seed)) for seed in range(5)]
        scores = {"chance": {name: float(np.mean([c[name] for c in chance])) for name in chance[0]}}
        for name, extract in baselines.BASELINES.items():
            scores[name] = self.baseline(np.concatenate([extract(batch) for batch in self.images(order)]))
        return scores

    def baseline(self, features: np.ndarray) -> dict[str, float]:
        """Rank-1 and mAP of any features [N, D] on the primary metric's protocol."""
        row = self._score(cosine_distances(features), self.primary)
        return {name: row[name]["mean"] for name in ("rank1", "mAP")}

    def _score(self, distances: Distances, protocol: RetrievalProtocol, *, per_trial: bool = False) -> dict[str, Any]:
        image_set = self.image_set
        return evaluate_protocol(distances, image_set.identities, image_set.cameras, protocol, per_trial=per_trial)

    def images(self, positions: np.ndarray) -> Iterator[np.ndarray]:
        """Images as models see them: uint8 [n, H, W, 3] each, n at most `settings.batch`."""
        return decoded(self.image_set, positions, image_size=self.image_size, batch=self.settings.batch)


def decoded(
    image_set: ImageSet, positions: np.ndarray, *, image_size: tuple[int, int], batch: int
) -> Iterator[np.ndarray]:
    """The images at some positions, in their order: uint8 [n, H, W, 3] each, n at most `batch`."""
    return in_order(image_set, positions, height=image_size[0], width=image_size[1], batch=batch)


def embed_images(
    image_set: ImageSet, embed: Embed, variables: PyTree, *, image_size: tuple[int, int], batch: int
) -> dict[str, np.ndarray]:
    """Feature name -> float32 [N, D] in the order of the image set; each process embeds a share of it."""
    features: dict[str, np.ndarray] = {}
    for number, modality in enumerate(MODALITIES):
        positions = np.flatnonzero(image_set.modalities == number)
        own = decoded(image_set, distributed.share(positions), image_size=image_size, batch=batch)
        batches = [embed(variables, images, modality) for images in own]
        for name in batches[0] if batches else ():
            values = distributed.gathered(np.concatenate([batch[name] for batch in batches]))[: len(positions)]
            whole = features.setdefault(name, np.zeros((len(image_set), values.shape[1]), np.float32))
            whole[positions] = values
    return features


def compiled_embed(
    method: Method, *, flip: bool = False, joined: Collection[str] = (), normalized: bool = False
) -> Embed:
    """The `embedding` of a method, `compiled`."""
    return compiled(embedding(method, flip=flip, joined=joined, normalized=normalized), of=method)


def embedding(
    method: Method, *, flip: bool = False, joined: Collection[str] = (), normalized: bool = False
) -> Callable[..., Any]:
    """The embedding of a method; with `flip` the mean of an image's features and its horizontal flip's.

    Features of the names in `joined` are made of these, see `joined.join`. With `normalized` it is its
    `embed_normalized`, of float32 images.
    """
    of_images = getattr(method, "embed_normalized" if normalized else "embed")

    def embed(variables: PyTree, images: jax.Array, modality: str) -> dict[str, jax.Array]:
        features = of_images(variables, images, modality)
        if flip:
            mirrored = of_images(variables, images[:, :, ::-1], modality)
            features = jax.tree.map(lambda a, b: (a + b) / 2, features, mirrored)
        return join(features, joined)

    return embed


def compiled(embed: Callable[..., Any], *, of: Method | Fitted) -> Embed:
    """A function (variables, uint8 images [n, H, W, 3], modality) -> {feature name: float32 [n, D]} of one like it.

    It runs on all devices of this process, compiled once per modality. A method (`of`) without anything to train
    computes with numpy, and runs as it is.
    """
    if not isinstance(of, Trained):
        return embed
    runs = {
        modality: parallel.sharded_inference(lambda variables, images, m=modality: embed(variables, images, m))
        for modality in MODALITIES
    }
    return lambda variables, images, modality: runs[modality](variables, images)
