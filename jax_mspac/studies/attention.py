"""The slides' first ablation: part attention in a cascade, with the identity loss on the whole body or on its parts.

The rows are without center loss, because MSPAC+gid is also the first row of the slides' third ablation.
"""

from jax_mspac.studies.base import Row, Table

_BASELINE = {"model.parts": (), "loss.mecen.weight": 0.0}
_MSPAC = {"model.parts": (6, 3, 1), "loss.mecen.weight": 0.0}

TABLE = Table(
    name="attention",
    title="Does attention to parts in a cascade help?",
    scores=("rank1", "rank5", "rank10", "rank20", "mAP"),
    rows=(
        Row(
            "Baseline+gid",
            _BASELINE | {"loss.identity": "global"},
            {"rank1": 27.14, "rank5": 58.77, "rank10": 72.60, "rank20": 84.35, "mAP": 29.22},
        ),
        Row(
            "MSPAC+gid",
            _MSPAC | {"loss.identity": "global"},
            {"rank1": 38.86, "rank5": 68.16, "rank10": 79.78, "rank20": 89.93, "mAP": 40.69},
        ),
        Row(
            "Baseline+pid",
            _BASELINE | {"loss.identity": "part"},
            {"rank1": 37.97, "rank5": 73.28, "rank10": 84.33, "rank20": 92.30, "mAP": 41.08},
        ),
        Row(
            "MSPAC+pid",
            _MSPAC | {"loss.identity": "part"},
            {"rank1": 41.41, "rank5": 70.87, "rank10": 84.09, "rank20": 93.66, "mAP": 41.98},
        ),
    ),
)
