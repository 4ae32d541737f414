"""The tables: their numbers are the slides', and each row changes what it says and nothing else."""

import csv
import io
import math
import operator
import re

import jax
import numpy as np
import pytest

from configs import folder, sysu, sysu_strong
from jax_mspac import config as config_lib
from jax_mspac import methods, reproduce
from jax_mspac.errors import UserError
from jax_mspac.runs import config_file, results
from jax_mspac.studies import TABLES, Row, Table, summary

CHANNELS = 32  # of the last stage at width 4
NAMES = {
    "attention": ["Baseline+gid", "MSPAC+gid", "Baseline+pid", "MSPAC+pid"],
    "parts": ["{1}", "{3}", "{6}", "{1,3}", "{3,6}", "{1,3,6}"],
    "mecen": ["MSPAC+gid", "+center", "+margin", "+exp"],
}


def tiny_config():
    config = config_lib.default_config()
    with config.giving_way():
        config.data.height, config.data.width = 96, 32
        config.batch.identities, config.batch.visible, config.batch.infrared = 4, 4, 4
        config.model.backbone, config.model.width = "resnet10", 4
    return config


def rows():
    return [pytest.param(name, row, id=f"{name} {row.name}") for name, table in TABLES.items() for row in table.rows]


def shapes_of(config):
    """Path -> shape of everything that is trained."""
    method = methods.build(config, num_identities=7)
    state = jax.eval_shape(method.init, jax.random.key(0))
    trained = {
        "embedder": state.variables["embedder"]["params"],
        "heads": state.training["networks"]["heads"]["params"],
    }
    leaves = jax.tree_util.tree_flatten_with_path(trained)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


@pytest.mark.parametrize("name", list(NAMES))
def test_rows_of_the_slides(name):
    assert [row.name for row in TABLES[name].rows] == NAMES[name]


@pytest.mark.parametrize("name", list(NAMES))
def test_numbers_of_the_slides(name, reference_data):
    slides = reference_data.parent / "reference" / "seed_slides.md"
    if not slides.is_file():
        pytest.skip(f"no text of the slides at {slides}")
    lines = [re.findall(r"\d+\.\d+", line) for line in slides.read_text().splitlines()]
    for row in TABLES[name].rows:
        assert [f"{row.slides[score]:.2f}" for score in TABLES[name].scores] in lines, row.name


@pytest.mark.parametrize(("name", "row"), rows())
def test_settings_are_fields_and_possible(name, row):
    config = reproduce.run_config(tiny_config(), row, seed=3)
    flat = config_file.differences(tiny_config(), config, ())
    # Nothing but what the row says, and the seed.
    system = methods.METHODS[row.settings.get("method", "mspac")]
    batch = {"batch.identities", "batch.visible", "batch.infrared"} if system.images else set()
    allowed = {*row.settings, *system.settings, *system.recipe, *batch, "seed", "eval.every", "eval.baselines"}
    assert {line.split()[0].removeprefix("config.") for line in flat} <= allowed
    assert config.seed == 3 and jax.eval_shape(methods.build(config, num_identities=7).init, jax.random.key(0))


def test_attention_is_all_that_the_cascade_adds():
    table = {row.name: shapes_of(reproduce.run_config(tiny_config(), row, 0)) for row in TABLES["attention"].rows}
    for identity in ("gid", "pid"):
        without, with_attention = table[f"Baseline+{identity}"], table[f"MSPAC+{identity}"]
        added = {path: shape for path, shape in with_attention.items() if path not in without}
        assert {path: shape for path, shape in with_attention.items() if path in without} == without
        assert all(path.startswith("embedder/attention/") for path in added)
        # One affine map of the channels and one 7x7 convolution of two maps to one, for each of 6 + 3 + 1 parts.
        channel_gate, spatial_gate = CHANNELS * CHANNELS + CHANNELS, 7 * 7 * 2
        assert sum(map(math.prod, added.values())) == 10 * (channel_gate + spatial_gate)


def test_part_identity_loss_has_a_classifier_and_a_neck_for_each_stripe():
    table = {row.name: shapes_of(reproduce.run_config(tiny_config(), row, 0)) for row in TABLES["attention"].rows}
    whole, parts = table["Baseline+gid"], table["Baseline+pid"]
    changed = {path: (whole[path], parts[path]) for path in whole if whole[path] != parts[path]}
    assert whole.keys() == parts.keys()
    assert changed == {
        "embedder/neck/scale": ((CHANNELS,), (6 * CHANNELS,)),
        "heads/classifier": ((1, CHANNELS, 7), (6, CHANNELS, 7)),
    }


def test_levels_have_their_number_of_parts():
    for row in TABLES["parts"].rows:
        shapes = shapes_of(reproduce.run_config(tiny_config(), row, 0))
        gates = {path.split("/")[2] for path in shapes if path.startswith("embedder/attention/")}
        levels = sorted({int(n) for n in re.findall(r"\d+", row.name)}, reverse=True)
        assert gates == {f"level{k}_part{i}" for k, n in enumerate(levels) for i in range(n)}


def test_center_loss_adds_the_centers_and_no_other_parameter():
    without, *others = (shapes_of(reproduce.run_config(tiny_config(), row, 0)) for row in TABLES["mecen"].rows)
    for shapes in others:
        assert shapes == without | {"heads/mecen/centers": (7, CHANNELS)}


def test_rows_of_a_seed_start_from_the_same_parameters():
    built = [
        methods.build(reproduce.run_config(tiny_config(), row, 0), num_identities=7) for row in TABLES["mecen"].rows[:2]
    ]
    states = [jax.jit(method.init)(jax.random.key(0)) for method in built]
    jax.tree.map(np.testing.assert_array_equal, *(state.variables for state in states))
    np.testing.assert_array_equal(*(state.training["networks"]["heads"]["params"]["classifier"] for state in states))


@pytest.fixture
def small_table():
    rows = (Row("first", {}, {"rank1": 30.0, "mAP": 40.0}), Row("second", {}, {"rank1": 50.0, "mAP": 45.5}))
    return Table(name="small", title="Which?", scores=("rank1", "mAP"), rows=rows)


MEASURED = {
    "first": [{"rank1": 0.2, "mAP": 0.3}, {"rank1": 0.3, "mAP": 0.5}],
    "second": [{"rank1": 0.1, "mAP": 0.2}],
}


def test_markdown_has_mean_deviation_slides_and_order(small_table):
    text = summary.markdown(small_table, MEASURED, ["A note."])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    assert lines[0] == ["row", "seeds", "rank-1", "mAP", "slides rank-1", "slides mAP"]
    # 0.0707 is the deviation of 0.2 and 0.3 with n - 1 in the denominator.
    assert lines[2] == ["first", "2", "25.00 ± 7.07", "40.00 ± 14.14", "30.00", "40.00"]
    assert lines[3] == ["second", "1", "10.00", "20.00", "50.00", "45.50"]
    assert "A note." in text and "measured: second < first" in text and "slides: first < second" in text


def test_markdown_without_slides_says_nothing_of_them(small_table):
    table = Table(name="x", title="X", scores=("mAP",), rows=(Row("first", {}), Row("second", {})))
    text = summary.markdown(table, {"first": MEASURED["first"]}, [])
    assert "slides" not in text.lower() and "| second | 0     | -" in text


def test_csv_reads_back(small_table):
    lines = list(csv.DictReader(io.StringIO(summary.comma_separated(small_table, MEASURED))))
    assert [line["row"] for line in lines] == ["first", "second"]
    assert float(lines[0]["rank1_mean"]) == 0.25 and float(lines[0]["mAP_slides"]) == 0.4
    np.testing.assert_allclose(float(lines[0]["mAP_std"]), math.sqrt(0.02), atol=1e-6)
    assert float(lines[1]["mAP_std"]) == 0.0


def test_recipes_are_those_of_the_configs():
    plain, strong = sysu.get_config(), sysu_strong.get_config()
    rows = {row.name: row.settings for row in TABLES["recipes"].rows}
    changed = {line.split()[0].removeprefix("config.") for line in config_file.differences(plain, strong, ())}
    assert changed == rows["plain"].keys() == rows["strong"].keys()
    for config, row in ((plain, rows["plain"]), (strong, rows["strong"]), (folder.get_config(), rows["strong"])):
        assert {field: operator.attrgetter(field)(config) for field in row} == row
    # Each ingredient changes its own fields and no other; all of them are the strong recipe.
    added = [dict(settings.items() - rows["plain"].items()) for name, settings in rows.items() if name.startswith("+")]
    assert {field: value for settings in added for field, value in settings.items()} == rows["strong"]
    assert sum(map(len, added)) == len(changed)


def test_unknown_rows_are_refused_with_the_names_there_are():
    with pytest.raises(UserError, match=r"no row \{2\}; its rows are \{1\}, \{3\}"):
        TABLES["parts"].chosen(["{1}", "{2}"])
    assert [row.name for row in TABLES["parts"].chosen(["{3,6}", "{1}"])] == ["{1}", "{3,6}"]


def test_scores_are_names_of_the_results():
    for table in TABLES.values():
        assert set(table.scores) <= set(results.SCORES) and "mAP" in table.scores
        assert len({reproduce.folder_name(row) for row in table.rows}) == len(table.rows)


def test_rows_that_the_slides_lack_stand_in_the_comparison_all_the_same():
    scores = dict.fromkeys(results.SCORES, 0.5)
    measured = {"agw": [scores], "bdtr": [scores | {"mAP": 0.4}], "mspac": [scores | {"mAP": 0.6}]}
    text = summary.markdown(TABLES["comparison"], measured, [])
    assert "By mAP, measured: bdtr < agw < mspac." in text and "By mAP, slides: bdtr < mspac." in text
    for printed in ("| AlignGAN     | 57.9", "indoor multi-shot mAP", "| cmGAN         | 26.97"):
        assert printed in text
