"""An index's store together with the one model that its features are of."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.search import model_identity
from jax_mspac.search.base import Store
from jax_mspac.search.entries import Entry

if TYPE_CHECKING:
    from jax_mspac.runs.inference import Model

AModel = Union["Model", str, os.PathLike[str]]


class Embedded:
    """A store, and the model of its features as soon as one is needed.

    Args:
      store: of the index.
      loaded: the model, if it is at hand.
    """

    def __init__(self, store: Store, loaded: "tuple[Model, model_identity.Identity] | None" = None):
        self._store = store
        self._loaded = loaded

    @property
    def folder(self) -> pathlib.Path | None:
        """See `base.Store`."""
        return self._store.folder

    def put(
        self,
        entries: Sequence[Entry],
        features: np.ndarray,
        facts: Mapping[str, Any] | None = None,
        *,
        identity: model_identity.Identity | None = None,
    ) -> None:
        """Stores entries with their features, float32 [N, D], and then facts; as one, where the store can.

        Args:
          entries: of different paths.
          features: of length 1.
          facts: name -> JSON value.
          identity: of the model that they are of; default: the one that is loaded.
        """
        identity = identity or self.model_of(None)[1]
        with self._store.writing():
            if entries:
                self._store.begin(identity, features.shape[1])
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

    def model_of(self, model: AModel | None) -> "tuple[Model, model_identity.Identity]":
        """The model that is asked for, which must be that of the index, and its identity."""
        from jax_mspac.runs import inference  # seconds, of JAX and what else computes; a list goes without

        loaded = self._loaded
        if model is None and loaded is None:
            kept = self.identity()
            try:
                model = inference.load(kept["workdir"], str(kept["step"]))
            except UserError as error:
                raise UserError(f"the model of this index: {error}; name its folder if it has moved") from error
        if loaded is None or (model is not None and model is not loaded[0]):
            network = model if isinstance(model, inference.Model) else inference.load(pathlib.Path(model or ""))
            loaded = self._loaded = network, model_identity.of(network)
        if not self._store.is_empty():
            model_identity.check_same(self.identity(), loaded[1], dimensions=self._store.fact("dimensions"))
        return loaded

    def identity(self) -> model_identity.Identity:
        """The model that the entries were embedded by."""
        if self._store.is_empty():
            raise UserError(f"{self._store.place}: the index holds no images yet; add some, with a model")
        return self._store.fact("model")
