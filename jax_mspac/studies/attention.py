"""The slides' first ablation: part attention in a cascade, with the identity loss on the whole body or on its parts.

The rows are without center loss, because MSPAC+gid is also the first row of the slides' third ablation.
"""

from jax_mspac.studies.base import Row, Table

_SCORES = ("rank1", "rank5", "rank10", "rank20", "mAP")
# Name -> levels of the cascade, form of the identity loss, scores in the slides.
_ROWS = {
    "Baseline+gid": ((), "global", (27.14, 58.77, 72.60, 84.35, 29.22)),
    "MSPAC+gid": ((6, 3, 1), "global", (38.86, 68.16, 79.78, 89.93, 40.69)),
    "Baseline+pid": ((), "part", (37.97, 73.28, 84.33, 92.30, 41.08)),
    "MSPAC+pid": ((6, 3, 1), "part", (41.41, 70.87, 84.09, 93.66, 41.98)),
}

TABLE = Table(
    name="attention",
    title="Does attention to parts in a cascade help?",
    scores=_SCORES,
    rows=tuple(
        Row(
            name,
            {"model.parts": parts, "loss.identity": identity, "loss.mecen.weight": 0.0},
            dict(zip(_SCORES, slides, strict=True)),
        )
        for name, (parts, identity, slides) in _ROWS.items()
    ),
)
