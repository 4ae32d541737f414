"""Ranking entries of a store with and without gaps, on the host and on a device, against sorting."""

import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.metrics import search
from jax_mspac.search import ranking
from jax_mspac.search.entries import Entry, Filter
from jax_mspac.search.store import Store

CAMERAS = ("1", "2", "3")


@pytest.fixture(params=["_on_host", "_on_device"])
def path(request, monkeypatch):
    """Both ways to search, whatever the platform."""
    chosen = getattr(search, request.param)
    monkeypatch.setattr(search, "_on_host", chosen)
    monkeypatch.setattr(search, "_on_device", chosen)
    monkeypatch.setattr(search, "_IMAGES", 64)  # several blocks


@pytest.mark.parametrize("removed", [0, 1, 150])
def test_agrees_with_sorting(path, tmp_path, removed):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((300, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    query = rng.standard_normal(8)
    entries = [
        Entry(path=f"/{i:03}", digest="", modality="visible", camera=CAMERAS[i % 3], metadata={"number": str(i)})
        for i in range(300)
    ]
    with Store(tmp_path / "index", create=True) as store:
        with store.writing():
            store.put(entries, features)
        gone = set(rng.permutation(300)[:removed].tolist())
        store.remove(sorted(gone))
        for wanted, cameras in ((Filter(), CAMERAS), (Filter(cameras=("2",)), ("2",))):
            left = [i for i in range(300) if i not in gone and CAMERAS[i % 3] in cameras]
            cosines = features.astype(np.float64) @ query / np.linalg.norm(query)
            expected = sorted(left, key=lambda i: -cosines[i])[:20]
            with store.reading():
                hits = ranking.nearest(store, query, "infrared", wanted, top=20)
            assert [int(hit.metadata["number"]) for hit in hits] == expected
            assert [hit.similarity for hit in hits] == pytest.approx([cosines[i] for i in expected], abs=1e-6)
        with pytest.raises(UserError, match=r"a feature is \[1, 9\]; the index holds features of 8"):
            ranking.nearest(store, np.ones(9), "visible", Filter(), top=1)
