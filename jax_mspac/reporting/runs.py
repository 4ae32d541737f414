"""A trained run as a report sees it: its records, its model's features of the test images, what it attends to."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jax_mspac import methods
from jax_mspac.data import datasets
from jax_mspac.data.image_set import ImageSet
from jax_mspac.data.input import in_order
from jax_mspac.errors import UserError
from jax_mspac.evaluation.evaluator import Evaluator, compiled_embed
from jax_mspac.methods.base import Method
from jax_mspac.modalities import MODALITIES
from jax_mspac.reporting import records
from jax_mspac.reporting.heatmaps import Attention, from_method
from jax_mspac.runs import inference
from jax_mspac.runtime import parallel


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run and its model.

    Attributes:
      workdir: its folder.
      config: of the run.
      step: of the checkpoint.
      records: what the run wrote about itself.
      test: the test split and its protocols.
      notes: what a reader must know of the data.
      features: float32 [N, D] of unit length, the primary metric's feature of the test images.
    """

    workdir: pathlib.Path
    config: ConfigDict
    step: int
    records: records.Records
    test: Evaluator
    notes: list[str]
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
                run = parallel.sharded_inference(lambda variables, images, m=modality: attend(variables, images, m))
                parts.append(run(self._variables, self.images(positions[chosen])))
                order.append(chosen)
        back = np.argsort(np.concatenate(order))
        return from_method(jax.tree.map(lambda *maps: np.concatenate(maps)[back], *parts))

    def images(self, positions: np.ndarray) -> np.ndarray:
        """Test images as the model sees them: uint8 [n, H, W, 3]."""
        data = self.config.data
        batches = in_order(self.test.image_set, positions, height=data.height, width=data.width, batch=64)
        return np.concatenate(list(batches))


def load(workdir: pathlib.Path, *, checkpoint: str, locations: dict[str, str], same_as: Run | None = None) -> Run:
    """Loads a run and embeds its test images.

    Args:
      workdir: folder of the run.
      checkpoint: "latest", "best" or a step.
      locations: fields of `config.data` to replace, where the data has moved.
      same_as: another run, whose test images this one must share.

    Raises:
      UserError: there is no such run or checkpoint, the data is missing, or the test images are not the same.
    """
    model = inference.load(workdir, checkpoint)
    config = model.config
    with config.unlocked():
        config.data.update(locations)
    builder = datasets.prepared(config.data)
    image_set = datasets.load(builder, ("test",))
    if same_as is not None and not _equal(image_set, same_as.test.image_set):
        raise UserError(
            f"{workdir} was tested on other images than {same_as.workdir}: config.data differs in the data set, its "
            "test identities or its seed, so the one may have been trained on the other's test identities; "
            "give --against a run on the same data"
        )
    method = methods.build(config, num_identities=1)  # the classes matter to training alone
    test = Evaluator(image_set, config)
    features = test.embed(compiled_embed(method, flip=config.eval.flip), model.variables)[config.eval.feature]
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise UserError(
            f"{workdir}: a feature of the checkpoint of step {model.step} is not finite: the model has diverged; "
            "name an earlier step with --checkpoint"
        )
    unit = (features / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    return Run(
        workdir=workdir,
        config=config,
        step=model.step,
        records=records.read(workdir),
        test=test,
        notes=datasets.notes(builder),
        features=unit,
        _method=method,
        _variables=model.variables,
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
    fields: dict[str, str] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                visit(f"{prefix}.{name}" if prefix else name, inner)
        else:
            fields[prefix] = repr(value)

    visit("", config.to_dict())
    return dict(sorted(fields.items()))
