"""What the slides leave open: the full method with one reading changed at a time."""

from typing import Any

from jax_mspac.studies.base import Row, Table

_READINGS: dict[str, dict[str, Any]] = {
    "as configured": {},
    "literal attention": {"model.attention_form": "literal"},
    "MeCen sum": {"loss.mecen.reduction": "sum"},
    "MeCen mean": {"loss.mecen.reduction": "mean"},
    "MeCen after neck": {"loss.mecen.feature": "after_neck"},
    "margin 0.1": {"loss.mecen.margin": 0.1},
    "margin 0.6": {"loss.mecen.margin": 0.6},
    "slow centers": {"optimizer.centers_factor": 0.2},
    "fast centers": {"optimizer.centers_factor": 5.0},
    "projected centers": {"loss.mecen.centers": "project"},
    "identity before neck": {"loss.identity_feature": "before_neck"},
    "identity of parts": {"loss.identity": "part"},
    "GeM pooling": {"model.pooling": "gem"},
    "all shared": {"model.shared_from": 0},
    "own stems": {"model.shared_from": 1},
    "own stems and stage 1": {"model.shared_from": 2},
    "two networks": {"model.shared_from": 5},
}

TABLE = Table(
    name="readings",
    title="Which reading of what the slides leave open works best?",
    scores=("rank1", "rank10", "mAP", "mINP"),
    rows=tuple(Row(name, settings) for name, settings in _READINGS.items()),
)
