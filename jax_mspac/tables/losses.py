"""MeCen and its rivals on the same model and budget."""

from jax_mspac.tables.base import Row, Table

_ALONE = {"loss.mecen.weight": 0.0, "loss.hetero_center.weight": 0.0, "loss.triplet.kind": "none"}
_LOSSES = {
    "identity": {},
    "+MeCen": {"loss.mecen.weight": 0.2},
    "+hetero-center": {"loss.hetero_center.weight": 0.5},
    "+batch-hard": {"loss.triplet.kind": "batch_hard"},
    "+weighted triplet": {"loss.triplet.kind": "weighted_regularized"},
    "+MeCen+batch-hard": {"loss.mecen.weight": 0.2, "loss.triplet.kind": "batch_hard"},
}

TABLE = Table(
    name="losses",
    title="Is MeCen worth having beside its rivals?",
    scores=("rank1", "rank10", "mAP", "mINP"),
    rows=tuple(Row(name, _ALONE | settings) for name, settings in _LOSSES.items()),
)
