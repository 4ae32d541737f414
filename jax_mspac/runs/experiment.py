"""An experiment: a config and what it stands for. Everything that opens a run opens it here."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.data import memory, registry
from jax_mspac.data.image_set import ImageSet
from jax_mspac.errors import UserError
from jax_mspac.evaluation.evaluator import Embed, EvaluationSettings, Evaluator, compiled_embed
from jax_mspac.methods.base import Method
from jax_mspac.runs import config_file, weights_folder
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runtime import command, distributed
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import Collector

PyTree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """A validated config, the data set and the method that it names, and the folder of the run if there is one."""

    config: ConfigDict
    workdir: pathlib.Path | None = None

    @classmethod
    def opened(
        cls, workdir: pathlib.Path, *, asked: ConfigDict | None = None, locations: dict[str, str] | None = None
    ) -> "Experiment":
        """The experiment of a run's folder.

        Args:
          workdir: the folder.
          asked: a config whose `data` and `eval` replace the run's; what the model is stays the run's.
          locations: fields of `data` to replace, where the data has moved.

        Raises:
          UserError: there is no run in the folder, or the settings are impossible.
        """
        config = config_file.load(workdir / config_file.FILE)
        if asked is not None:
            trained, by_hand = config, config_lib.chosen(asked)
            asked = asked.copy_and_resolve_references()
            asked.method = trained.method
            asked = methods.configured(asked, chosen=by_hand)
            config = trained.copy_and_resolve_references()
            with config.unlocked():
                config.data, config.eval = asked.data, asked.eval
                config.data.update({name: trained.data[name] for name in ("height", "width")})
        with config.unlocked():
            config.data.update(locations or {})
        config_lib.validate(config)
        return cls(config, workdir)

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the run.

        Raises:
          ValueError: there is none.
        """
        if self.workdir is None:
            raise ValueError("an experiment without a folder has no files: open that of a run")
        return self.workdir

    @property
    def data_set(self) -> registry.DataSet:
        return registry.named(self.config.data.name)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the model sees."""
        return self.config.data.height, self.config.data.width

    @property
    def evaluation(self) -> EvaluationSettings:
        return Collector().of(EvaluationSettings, "eval", self.config.eval)

    def method(self, num_identities: int = 1) -> Method:
        """The method; the number of training identities matters to training alone."""
        return methods.build(self.config, num_identities=num_identities)

    @functools.cached_property
    def _stored(self) -> Any:
        """Where the images are: a `memory.Exported` or a `preparation.Prepared`."""
        data = self.config.data
        if data.memory:
            return memory.opened(data.memory, self.data_set, data)
        try:
            # TensorFlow takes seconds to import: only where images are read.
            from jax_mspac.data import preparation
        except ModuleNotFoundError as error:
            raise UserError(
                f"{error.name} is not installed, and prepared sets are read with it: {command.installing('train')}, "
                "or give --config.data.memory=FILE, which python -m jax_mspac.prepare --export=FILE writes"
            ) from error
        return distributed.in_turn(lambda: preparation.Prepared(self.data_set, data, data.data_dir))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the data set has."""
        return self._stored.splits

    @property
    def notes(self) -> list[str]:
        """What a reader of a result must know of the data."""
        return list(self._stored.notes)

    def images(self, *splits: str) -> ImageSet:
        """The images of some splits together; the data set is prepared if it was not.

        Raises:
          UserError: the data is missing or damaged, there is no such split, or several processes see other images.
        """
        image_set = self._stored.images(splits)
        distributed.check_same(f"the images of {' and '.join(splits)}", image_set.images)
        return image_set

    def evaluator(self, split: str = "test") -> Evaluator:
        """Scores models on a split."""
        return self.evaluator_of(self.images(split), split)

    def evaluator_of(self, image_set: ImageSet, split: str = "test") -> Evaluator:
        """Scores models on given images of a split."""
        protocols = self.data_set.search(
            image_set.identities,
            image_set.cameras,
            image_set.modalities,
            identity_names=image_set.identity_names,
            split=split,
            settings=self.config.eval,
        )
        return Evaluator(image_set, protocols, self.evaluation, image_size=self.image_size, split=split)

    def embed(self, method: Method | None = None, *, normalized: bool = False) -> Embed:
        """The embedding of the experiment's method, compiled: see `compiled_embed`."""
        flip, joined = self.evaluation.flip, self.evaluation.joins
        return compiled_embed(method or self.method(), flip=flip, joined=joined, normalized=normalized)

    def restore(self, which: str) -> tuple[int, PyTree]:
        """The step and the variables, as numpy arrays, that "latest", "best" or a number stands for.

        Raises:
          UserError: there is no such checkpoint, it is damaged, or it is of another model.
        """
        like = jax.eval_shape(self.method().init, jax.random.key(0)).variables
        if weights_folder.is_one(self.folder) and not (self.folder / FOLDER).exists():
            return weights_folder.restore(self.folder, which, like)
        with Checkpoints(self.folder / FOLDER, read_only=True) as checkpoints:
            return checkpoints.find_variables(which, like)

    def evaluation_record(self) -> dict[str, Any]:
        """The settings of the evaluation, for the results."""
        return json.loads(self.config.eval.to_json())
