"""The systems that the slides compare, and close relatives, each with the config's data, size and number of steps."""

from jax_mspac.studies.base import Row, Table
from jax_mspac.studies.published import comparison, published

# A name of `methods.METHODS` -> the system's name in the slides, which lack the later ones.
_SYSTEMS = {
    **{
        f"{descriptor.lower()}_{learner.lower()}": f"{descriptor} + {learner}"
        for descriptor in ("HOG", "LOMO")
        for learner in ("KISSME", "LFDA", "CCA", "CRAFT")
    },
    "tone_hcml": "TONE + HCML",
    "tone": None,
    "one_stream": "One-stream",
    "two_stream": "Two-stream",
    "zero_padding": "Zero-Padding",
    "bdtr": "BDTR",
    "ebdtr": "eBDTR",
    "hetero_center": None,
    "hetero_center_triplet": None,
    "agw": None,
    "caj": None,
    "mspac": "MSPAC-MeCen",
}
_PRINTED = {
    row.system: row.scores for row in published("sysu_mm01", mode="all", shots=1, direction="infrared->visible")
}

TABLE = Table(
    name="comparison",
    title="How do the systems compare on the same data and budget?",
    scores=("rank1", "rank10", "rank20", "mAP"),
    rows=tuple(Row(name, {"method": name}, _PRINTED.get(system, {})) for name, system in _SYSTEMS.items()),
    appendix=comparison(),
)
