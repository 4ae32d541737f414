"""The slides' second ablation: which levels the cascade has. The rows are with the full MeCen loss."""

from jax_mspac.studies.base import Row, Table


def _row(name: str, parts: tuple[int, ...], *slides: float) -> Row:
    settings = {"model.parts": parts, "loss.identity": "global"}
    return Row(name, settings, dict(zip(("rank1", "rank10", "rank20", "mAP"), slides, strict=True)))


# The cascade goes from fine to coarse, so {1,3,6} of the slides is (6, 3, 1).
TABLE = Table(
    name="parts",
    title="Which levels should the cascade have?",
    scores=("rank1", "rank10", "rank20", "mAP"),
    rows=(
        _row("{1}", (1,), 40.94, 84.22, 92.74, 44.86),
        _row("{3}", (3,), 40.52, 84.28, 93.61, 42.84),
        _row("{6}", (6,), 42.89, 84.91, 93.29, 44.31),
        _row("{1,3}", (3, 1), 45.31, 84.70, 92.43, 44.59),
        _row("{3,6}", (6, 3), 33.63, 81.28, 92.32, 36.65),
        _row("{1,3,6}", (6, 3, 1), 46.62, 87.59, 95.77, 47.26),
    ),
)
