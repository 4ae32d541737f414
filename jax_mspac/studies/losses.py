"""MeCen and its rivals on the same model and budget."""

from jax_mspac.studies.base import Row, Table

_ALONE = {f"loss.{name}.weight": 0.0 for name in ("mecen", "hetero_center", "batch_hard", "weighted_regularized")}
_LOSSES = {
    "identity": {},
    "+MeCen": {"loss.mecen.weight": 1.0},
    "+hetero-center": {"loss.hetero_center.weight": 0.5},
    "+batch-hard": {"loss.batch_hard.weight": 1.0},
    "+weighted triplet": {"loss.weighted_regularized.weight": 1.0},
    "+MeCen+batch-hard": {"loss.mecen.weight": 1.0, "loss.batch_hard.weight": 1.0},
}

TABLE = Table(
    name="losses",
    title="Is MeCen worth having beside its rivals?",
    scores=("rank1", "rank10", "mAP", "mINP"),
    rows=tuple(Row(name, _ALONE | settings) for name, settings in _LOSSES.items()),
)
