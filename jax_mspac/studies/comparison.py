"""The systems that the slides compare, and close relatives, each with the config's data, size and number of steps."""

from jax_mspac.data import published
from jax_mspac.runs.results import SCORE_NAMES, table
from jax_mspac.studies.base import Row, Table

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
    "cmgan": "cmGAN",
    "d2rl": "D²RL",
    "ebdtr": "eBDTR",
    "msr": "MSR",
    "aligngan": "AlignGAN",
    "hetero_center": None,
    "hetero_center_triplet": None,
    "agw": None,
    "caj": None,
    "caj_plus": None,
    "mpanet": None,
    "rle": None,
    "deen": None,
    "pmt": None,
    "mfen": None,
    "mspac": "MSPAC-MeCen",
}
# A system with a backbone of its own cannot start from the weights that the others start from.
_FURTHER = {"pmt": {"model.pretrained": "none"}}
_PRINTED = {row.system: row.scores for row in published.sysu_mm01(mode="all", shots=1, direction="infrared->visible")}


def _all_printed() -> str:
    """All that the slides print of systems, as Markdown: SYSU-MM01 by mode and shots, then RegDB."""
    searches = [f"{mode} {'single' if shots == 1 else 'multi'}-shot" for mode, shots in published.SYSU_COLUMNS]
    tables = []
    for data_set, printed, columns in (
        ("SYSU-MM01", published.SYSU, searches),
        ("RegDB", published.REGDB, [""]),
    ):
        scores = [SCORE_NAMES[score] for score in published.SCORES]
        header = ["system", *(f"{column} {score}".strip() for column in columns for score in scores)]
        rows = [[system, *numbers] for system, numbers in published.lines(printed)]
        tables.append(f"The slides' comparison on {data_set}, in percent:\n\n{table(header, rows)}")
    return "\n".join(tables)


TABLE = Table(
    name="comparison",
    title="How do the systems compare on the same data and budget?",
    scores=("rank1", "rank10", "rank20", "mAP"),
    rows=tuple(
        Row(name, {"method": name, **_FURTHER.get(name, {})}, _PRINTED.get(system or "", {}))
        for name, system in _SYSTEMS.items()
    ),
    appendix=_all_printed(),
)
