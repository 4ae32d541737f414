"""The rows of an evaluation, and which of them is the primary metric."""

import numpy as np
import pytest

from jax_mspac import config as config_lib
from jax_mspac.data.image_set import ImageSet
from jax_mspac.metrics.reranking import POSTPROCESSING
from jax_mspac.runs.experiment import Experiment


def evaluate(features, identities, modalities, **settings):
    """The evaluation of given features."""
    config = config_lib.default_config()
    config.eval.trials = 2
    config.eval.update(settings)
    empty = np.full(len(identities), b"", object)
    names = tuple(map(str, range(identities.max() + 1)))
    images = ImageSet(empty, identities, modalities + 1, modalities, empty, names)
    evaluator = Experiment(config).evaluator_of(images)
    evaluator.embed = lambda embed, variables: features
    return evaluator.evaluate(None, None)


@pytest.mark.parametrize("feature", ["before_neck", "after_neck"])
def test_reranked_rows_are_added_and_never_the_primary(feature):
    rng = np.random.default_rng(0)
    identities, modalities = np.tile(np.arange(8).repeat(4), 2), np.arange(2).repeat(32)
    values = (rng.standard_normal((8, 16))[identities] + 2 * rng.standard_normal((64, 16))).astype(np.float32)
    features = {"before_neck": values, "after_neck": np.abs(values)}
    labels = identities, modalities
    plain = evaluate(features, *labels, feature=feature)
    both = evaluate(features, *labels, feature=feature, postprocessing=tuple(POSTPROCESSING))

    assert [row for row in both["rows"] if "+" not in row["feature"]] == plain["rows"]
    assert both["rows"][both["primary"]] == plain["rows"][plain["primary"]]
    assert both["rows"][both["primary"]]["feature"] == feature
    names = [name + suffix for name in features for suffix in ("", *(f"+{step}" for step in POSTPROCESSING))]
    assert [row["feature"] for row in both["rows"]] == names * (len(plain["rows"]) // 2)
    assert {tuple(row) for row in both["rows"]} == {tuple(plain["rows"][0])}
    # They are scores of their own.
    for start in range(0, len(both["rows"]), 3):
        assert len({row["mAP"]["mean"] for row in both["rows"][start : start + 3]}) == 3
