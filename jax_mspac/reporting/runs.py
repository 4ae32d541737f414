"""A trained run as a report sees it: its records, its model's features of the test images, what it attends to."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from jax_mspac.data.image_set import ImageSet
from jax_mspac.errors import UserError
from jax_mspac.evaluation.evaluator import Evaluator, compiled
from jax_mspac.methods.base import Game, Method
from jax_mspac.metrics.distances import unit
from jax_mspac.modalities import MODALITIES
from jax_mspac.reporting import records
from jax_mspac.reporting.heatmaps import Attention, from_method
from jax_mspac.reporting.translations import Translations
from jax_mspac.runs import config_file, provenance
from jax_mspac.runs.experiment import Experiment
from jax_mspac.runtime import parallel
from jax_mspac.runtime.fields import ConfigDict


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run and its model.

    `step` is the checkpoint's, `records` what the run wrote about itself, `test` the test split and its protocols,
    `notes` what a reader must know of the data, and `features` the primary metric's feature of the test images, float32
    [N, D] of unit length.
    """

    workdir: pathlib.Path
    config: ConfigDict
    step: int
    records: records.Records
    test: Evaluator
    notes: list[str]
    provenance: provenance.Record | None
    trained: list[str]
    features: np.ndarray
    _method: Method
    _variables: Any

    def attention(self, positions: np.ndarray) -> Attention | None:
        """What the model attends to in the test images at some positions; None if its method cannot tell."""
        attend = getattr(self._method, "attention", None)
        if attend is None:
            return None
        parts, order = [], []
        for number, modality in enumerate(MODALITIES):
            chosen = np.flatnonzero(self.test.image_set.modalities[positions] == number)
            if chosen.size:
                run = compiled(attend, of=self._method)
                parts.append(run(self._variables, self.images(positions[chosen]), modality))
                order.append(chosen)
        back = np.argsort(np.concatenate(order))
        return from_method(jax.tree.map(lambda *maps: np.concatenate(maps)[back], *parts))

    @property
    def games(self) -> tuple[Game, ...]:
        """Those that the method's players play."""
        return getattr(self._method, "games", ())

    def translations(self, positions: np.ndarray) -> Translations | None:
        """What the model makes of the test images at some positions; None if its method does not translate."""
        translate = getattr(self._method, "translate", None)
        if translate is None:
            return None
        run, images = compiled(translate, of=self._method), self.images(positions)
        made, back = np.empty_like(images), np.empty_like(images)
        for number, modality in enumerate(MODALITIES):
            (other,) = (name for name in MODALITIES if name != modality)
            chosen = self.test.image_set.modalities[positions] == number
            if chosen.any():
                made[chosen] = run(self._variables, images[chosen], modality)
                back[chosen] = run(self._variables, made[chosen], other)
        return Translations(made, back)

    def images(self, positions: np.ndarray) -> np.ndarray:
        """Test images as the model sees them: uint8 [n, H, W, 3]."""
        return np.concatenate(list(self.test.images(positions)))


def load(workdir: pathlib.Path, *, checkpoint: str, locations: dict[str, str], same_as: Run | None = None) -> Run:
    """Loads a run, with `locations` (fields of `config.data`) where its data has moved, and embeds its test images.

    Args:
      workdir: folder of the run.
      checkpoint: "latest", "best" or a step.
      same_as: another run, whose test images this one must share.

    Raises:
      UserError: there is no such run or checkpoint, the data is missing, or the test images are not the same.
    """
    experiment = Experiment.opened(workdir, locations=locations)
    step, variables = experiment.restore(checkpoint)
    test, method, variables = experiment.evaluator(), experiment.method(), parallel.replicate(variables)
    if same_as is not None and not _equal(test.image_set, same_as.test.image_set):
        raise UserError(
            f"{workdir} was tested on other images than {same_as.workdir}: config.data differs in the data set, its "
            "test identities or its seed, so the one may have been trained on the other's test identities; "
            "give --against a run on the same data"
        )
    record, notes = provenance.read(workdir), experiment.notes
    trained = provenance.seen(record, test.image_set, data=experiment.config.data)
    if why := provenance.unknown(record):
        notes.append(why)
    if record and record["test"] and record["test"]["digest"] != provenance.summary(test.image_set)["digest"]:
        notes.append("The pictures show other test images than the run recorded when it began.")
    if trained:
        notes.append(f"The run was trained on {len(trained)} of the test identities: their scores say nothing.")
    features = test.embed(experiment.embed(method), variables)[experiment.evaluation.feature]
    if not np.isfinite(features).all():
        raise UserError(
            f"{workdir}: a feature of the checkpoint of step {step} is not finite: the model has diverged; "
            "name an earlier step with --checkpoint"
        )
    return Run(
        workdir=workdir,
        config=experiment.config,
        step=step,
        records=records.read(workdir),
        test=test,
        notes=notes,
        provenance=record,
        trained=trained,
        features=unit(features),
        _method=method,
        _variables=variables,
    )


def _equal(one: ImageSet, two: ImageSet) -> bool:
    return len(one) == len(two) and all(map(np.array_equal, (one.paths, one.images), (two.paths, two.images)))


def differences(one: ConfigDict, two: ConfigDict) -> list[tuple[str, str, str]]:
    """The fields in which two configs differ: (field, value in one, value in two)."""
    first, second = flat(one), flat(two)
    names = sorted(first.keys() | second.keys())
    return [
        (name, first.get(name, "-"), second.get(name, "-")) for name in names if first.get(name) != second.get(name)
    ]


def flat(config: ConfigDict) -> dict[str, str]:
    """Every field of a config under its dotted name, as text."""
    return {name: repr(value) for name, value in config_file.flat(config).items()}
