"""An index's store together with the one model that its features are of."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.runs import inference
from jax_mspac.runs.inference import Model
from jax_mspac.search import model_identity
from jax_mspac.search.entries import Entry
from jax_mspac.search.store import Store

AModel = Model | str | os.PathLike[str]


class Embedded:
    """A store, and the model of its features as soon as one is needed.

    Args:
      store: of the index.
      loaded: the model, if it is at hand.
    """

    def __init__(self, store: Store, loaded: tuple[Model, model_identity.Identity] | None = None):
        self._store = store
        self._loaded = loaded

    @property
    def folder(self) -> pathlib.Path:
        """Of the index."""
        return self._store.folder

    def put(
        self,
        entries: Sequence[Entry],
        features: np.ndarray,
        facts: Mapping[str, Any] | None = None,
        *,
        identity: model_identity.Identity | None = None,
    ) -> None:
        """Stores entries with their features, float32 [N, D], and facts: all or nothing.

        Args:
          entries: of different paths.
          features: of length 1.
          facts: name -> JSON value.
          identity: of the model that they are of; default: the one that is loaded.
        """
        identity = identity or self.model_of(None)[1]
        with self._store.writing():
            if entries and self._store.is_empty():
                self._store.set_fact("model", identity)
                self._store.set_fact("thresholds", None)
            if entries:
                # Another process may have begun the index with another model since this one was loaded.
                kept = self._store.fact("model")
                model_identity.check_same(kept, identity, dimensions=self._store.fact("dimensions") or 0)
                self._store.put(entries, features)
            for name, value in (facts or {}).items():
                self._store.set_fact(name, value)

    def known(self, paths: Sequence[str]) -> dict[str, Entry]:
        """The entries that are there, by path."""
        return {path: entry for path, (_, entry) in self._store.at(paths).items()}

    def relabel(self, entries: Sequence[Entry]) -> None:
        """Gives entries that are there another camera, time or metadata."""
        with self._store.writing():
            self._store.relabel(entries)

    def model_of(self, model: AModel | None) -> tuple[Model, model_identity.Identity]:
        """The model that is asked for, which must be that of the index, and its identity."""
        loaded = self._loaded
        if model is None and loaded is None:
            kept = self.identity()
            try:
                model = inference.load(kept["workdir"], str(kept["step"]))
            except UserError as error:
                raise UserError(f"the model of this index: {error}; name its folder if it has moved") from error
        if loaded is None or (model is not None and model is not loaded[0]):
            network = model if isinstance(model, Model) else inference.load(pathlib.Path(model or ""))
            loaded = self._loaded = network, model_identity.of(network)
        if not self._store.is_empty():
            model_identity.check_same(self.identity(), loaded[1], dimensions=self._store.fact("dimensions"))
        return loaded

    def identity(self) -> model_identity.Identity:
        """The model that the entries were embedded by."""
        if self._store.is_empty():
            raise UserError(f"{self._store.folder}: the index holds no images yet; add some, with a model")
        return self._store.fact("model")
