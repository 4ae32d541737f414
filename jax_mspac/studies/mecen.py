"""The slides' third ablation: from no center loss to MeCen in three steps."""

from jax_mspac.studies.base import Row, Table


def _row(name: str, settings: dict[str, object], *slides: float) -> Row:
    settings = {"model.parts": (6, 3, 1), "loss.identity": "global"} | settings
    return Row(name, settings, dict(zip(("rank1", "rank5", "rank10", "rank20", "mAP"), slides, strict=True)))


TABLE = Table(
    name="mecen",
    title="What does each part of the MeCen loss add?",
    scores=("rank1", "rank5", "rank10", "rank20", "mAP"),
    rows=(
        _row("MSPAC+gid", {"loss.mecen.weight": 0.0}, 38.86, 68.16, 79.78, 89.93, 40.69),
        _row(
            "+center", {"loss.mecen.use_margin": False, "loss.mecen.use_exp": False}, 40.36, 72.44, 83.09, 91.22, 41.40
        ),
        _row(
            "+margin", {"loss.mecen.use_margin": True, "loss.mecen.use_exp": False}, 42.44, 72.36, 82.80, 90.98, 43.19
        ),
        _row("+exp", {"loss.mecen.use_margin": True, "loss.mecen.use_exp": True}, 46.62, 77.20, 87.59, 95.77, 47.26),
    ),
)
