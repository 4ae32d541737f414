"""A search of the index ranks as the evaluator does."""

import numpy as np
import pytest
from helpers import indexes, small_runs

import jax_mspac
from jax_mspac.modalities import MODALITIES
from jax_mspac.runs.experiment import Experiment


def test_rank1_and_map_are_those_of_the_evaluator(tmp_path):
    run = indexes.trained(
        small_runs.draw(tmp_path), "run", **{"eval.shots": (0,), "eval.flip": True, "train.steps": 12}
    )
    experiment = Experiment.opened(run)
    images = experiment.images("test")
    paths = []
    for number, data in enumerate(images.images):
        paths.append(tmp_path / "test" / f"{number:03}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        paths[-1].write_bytes(data)
    identity = dict(zip(map(str, paths), images.identities.tolist(), strict=True))
    model = jax_mspac.load(run)
    rows = experiment.evaluator().evaluate(experiment.embed(), model.variables)["rows"]
    wanted = {(row["direction"], row["feature"]): row for row in rows}
    with jax_mspac.Index.open(tmp_path / "index") as index:
        for number, modality in enumerate(MODALITIES):
            mine = [paths[i] for i in np.flatnonzero(images.modalities == number)]
            # Interrupted and gone on with, as it were.
            index.add(mine[: len(mine) // 2], model=model, modality=modality, batch=3)
            index.add(mine, model=model, modality=modality, batch=3)
        for number, (modality, other) in enumerate((MODALITIES, MODALITIES[::-1])):
            firsts, precisions = [], []
            for path in (paths[i] for i in np.flatnonzero(images.modalities == number)):
                hits = index.query(path, modality, of=other, top=1000)
                right = np.array([identity[hit.path] == identity[str(path)] for hit in hits])
                places = np.flatnonzero(right) + 1
                firsts.append(right[0])
                precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
            expected = wanted[f"{modality}->{other}", model.config.eval.feature]
            assert np.mean(firsts) == pytest.approx(expected["rank1"]["mean"], abs=1e-6)
            assert np.mean(precisions) == pytest.approx(expected["mAP"]["mean"], abs=1e-6)
            assert 0 < np.mean(precisions) < 1  # a search that says something
