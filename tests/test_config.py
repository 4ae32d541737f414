"""The config: impossible values, and what makes two runs the same."""

import copy
import dataclasses
import importlib.util
import pathlib
import pickle
import sys

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.config import default_config
from jax_mspac.data.registry import DATA_SETS
from jax_mspac.errors import UserError
from jax_mspac.runs import config_file

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))


def load_module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_valid_and_quotes_its_command(path):
    module = load_module(path)
    config = module.get_config()
    config_lib.validate(methods.configured(config, chosen=config_lib.chosen(config)))
    assert f"python -m jax_mspac.main --config configs/{path.name}" in module.__doc__


# A value out of range for each kind of range.
OUTSIDE = (-1, -1.0, 2.5, float("inf"), "nothing", (), (0,), (2.0, 1.0), ("nothing",), 0)


def checked_settings():
    for section, component in config_lib.sections():
        for field in dataclasses.fields(component):
            if field.metadata.get("expected"):
                yield pytest.param(section, field, id=f"{section}.{field.name}")


@pytest.mark.parametrize("section, field", [*checked_settings()])
def test_every_range_is_checked_and_named(section, field):
    config = config_lib.default_config()
    name = f"{section}.{field.name}".removeprefix(".")
    expected = field.metadata["expected"]

    def refused(value):
        try:
            return not expected.holds(value)
        except (TypeError, IndexError):
            return False

    kind = type(field.default)
    value = next(value for value in OUTSIDE if type(value) is kind and refused(value))
    config.update_from_flattened_dict({name: value})
    with pytest.raises(UserError) as error:
        config_lib.validate(config)
    assert f"  config.{name} is {value!r}; expected {expected.text}" in str(error.value).splitlines()


@pytest.mark.parametrize(
    "field, value",
    [
        ("model.parts", (4, 1)),
        ("model.parts", (0,)),
        ("optimizer.milestones", (0.7, 0.4)),
        ("optimizer.learning_rate", 0.0),
        ("eval.feature", "neck"),
        ("eval.checkpoint", "newest"),
        ("augment.erasing_area", (0.4, 1.1)),
        ("data.train_splits", ("train", "train")),
        ("data.train_splits", ("train", "test")),
    ],
)
def test_impossible_values_are_named(field, value):
    config = config_lib.default_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError) as error:
        config_lib.validate(config)
    assert f"config.{field} is {value!r}; expected" in str(error.value)


def test_stripes_of_the_part_loss_have_to_divide_the_map():
    config = config_lib.default_config()
    config.loss.identity, config.model.stripes = "part", 4
    with pytest.raises(UserError, match=r"config\.model\.stripes is 4; expected what divides the 6 rows"):
        config_lib.validate(config)
    config.loss.identity = "global"
    config_lib.validate(config)


def test_one_modality_alone_is_learned_with_the_identity_loss_alone():
    config = config_lib.default_config()
    config.batch.infrared = 0
    with pytest.raises(UserError, match=r"config\.loss\.mecen\.weight is .*one modality alone"):
        config_lib.validate(config)
    config.loss.mecen.weight = 0.0
    config_lib.validate(config)
    config.batch.visible = 0
    with pytest.raises(UserError, match=r"config\.batch\.visible is 0"):
        config_lib.validate(config)


@pytest.mark.parametrize(
    "section, field, value, expected",
    [
        ("train", "steps", "400", "a whole number"),
        ("train", "steps", 1.5, "a whole number"),
        ("train", "steps", True, "a whole number"),
        ("train", "compilation_cache", 1, "True or False"),
        ("optimizer", "learning_rate", "fast", "a number"),
        ("optimizer", "learning_rate", float("nan"), "a number"),
        ("model", "parts", 3, "a list"),
        ("model", "parts", (3, "1"), "a list, each item a whole number"),
        ("eval", "postprocessing", (1,), "names among"),
        ("eval", "checkpoint", 5, "a text"),
        ("loss", "mecen", 1.0, "a section of settings"),
    ],
)
def test_values_of_another_type_are_named(section, field, value, expected):
    fields = config_lib.default_config().to_dict()
    fields[section][field] = value
    with pytest.raises(UserError) as error:
        config_lib.validate(ConfigDict(fields))
    assert f"config.{section}.{field} is {value!r}; expected {expected}" in str(error.value)


def test_fields_that_do_not_exist_and_fields_that_are_missing_are_named():
    fields = config_lib.default_config().to_dict()
    fields["train"]["stepz"] = fields["train"].pop("steps")
    fields["eval"]["galleries"] = ("seeded",)  # of SYSU-MM01, and not of the demo
    with pytest.raises(UserError) as error:
        config_lib.validate(ConfigDict(fields))
    for line in (
        "config.train.stepz: there is no such field; there are ",
        "config.train.steps is missing",
        "config.eval.galleries: there is no such field",
    ):
        assert line in str(error.value)


def test_fields_of_another_data_set_are_named():
    config = config_lib.default_config()
    config.data.rgb = "rgb"
    with pytest.raises(UserError, match="config.data.rgb: there is no such field; there are .*train_identities"):
        config_lib.validate(config)


def test_data_sets_bring_their_fields():
    for name, data_set in DATA_SETS.items():
        config = config_lib.default_config(name)
        assert {field: config.data[field] for field in data_set.fields} == data_set.fields
        assert {field: config.eval[field] for field in data_set.eval_fields} == data_set.eval_fields
        config_lib.validate(config)
    assert default_config("folder").data.test_fraction == 0.4 and "folds" not in default_config("regdb").data


def test_whole_numbers_may_stand_for_fractions():
    config = ConfigDict(config_lib.default_config().to_dict())
    with config.ignore_type():
        config.optimizer.learning_rate = 1
    config_lib.validate(config)


def test_problems_are_listed_together():
    config = config_lib.default_config()
    config.train.steps, config.model.last_stride, config.loss.identity = 0, 3, "none"
    with pytest.raises(UserError) as error:
        config_lib.validate(config)
    assert str(error.value).count("config.") == 3


def test_config_survives_its_file(tmp_path):
    config = config_lib.default_config()
    config.model.parts = (3, 1)
    config_file.save(config, tmp_path / config_file.FILE)
    loaded = config_file.load(tmp_path / config_file.FILE)
    assert loaded.to_dict() == config.to_dict()
    assert config_file.differences(loaded, config) == []


def test_only_a_short_list_may_change_on_resume():
    old, new = config_lib.default_config(), config_lib.default_config()
    new.train.log_every, new.eval.every, new.data.data_dir, new.checkpoint.every = 7, 3, "/elsewhere", 1
    assert config_file.differences(old, new) == []
    new.seed, new.model.parts, new.loss.mecen.margin, new.train.steps, new.metric.dims = 1, (3, 1), 0.0, 7, 3
    assert config_file.differences(old, new) == [
        "config.loss.mecen.margin was 0.3, now 0.0",
        "config.metric.dims was 100, now 3",
        "config.model.parts was (6, 3, 1), now (3, 1)",
        "config.seed was 0, now 1",
        "config.train.steps was 400, now 7",
    ]


def test_what_is_set_by_hand_is_known():
    config = default_config()
    assert config.chosen == set()
    config.model.width = config.model.width
    config.seed = 3
    with config.giving_way():
        config.model.pooling, config.batch.visible = "gem", 2
    assert config.chosen == {"model.width", "seed"} and config.model.pooling == "gem"
    assert copy.deepcopy(config).chosen == config.chosen == pickle.loads(pickle.dumps(config)).chosen
    config.update_from_flattened_dict({"loss.mecen.margin": 0.1})
    assert config.chosen == {"model.width", "seed", "loss.mecen.margin"}


# The library's own way to read a config file.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_a_system_gives_way_to_the_config_file_and_both_to_the_command_line(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(
        "from jax_mspac.config import default_config\n"
        "def get_config():\n"
        "    config = default_config()\n"
        "    config.method = 'agw'\n"
        "    with config.giving_way():\n"
        "        config.loss.weighted_regularized.weight = 0.5\n"
        "    config.model.pooling = 'average'\n"
        "    config.model.shared_from = 2\n"
        "    return config\n"
    )
    arguments = ["main", f"--config={file}", "--config.model.shared_from=3", "--config.optimizer.warmup=0.5"]
    monkeypatch.setattr("sys.argv", arguments)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    values(arguments)
    config = methods.configured(values.config, chosen=config_lib.chosen(values.config))
    # Command line, config file (also where it says what is the default), system, default.
    assert (config.model.shared_from, config.optimizer.warmup) == (3, 0.5)
    assert config.model.pooling == "average"
    assert config.loss.weighted_regularized.weight == 1.0 and config.model.nonlocal_blocks
    assert config.model.width == 64


def test_unreadable_config_is_named(tmp_path):
    with pytest.raises(UserError, match="is this the --workdir of a training run"):
        config_file.load(tmp_path / config_file.FILE)
    (tmp_path / config_file.FILE).write_text("{")
    with pytest.raises(UserError, match="not a JSON file"):
        config_file.load(tmp_path / config_file.FILE)


@pytest.mark.parametrize(
    "argument, field, expected",
    [
        ("train,val", "data.train_splits", ("train", "val")),
        ("train", "data.train_splits", ("train",)),
        ("('train', 'val')", "data.train_splits", ("train", "val")),
        ("'train','val'", "data.train_splits", ("train", "val")),
        ("official,seeded", "eval.galleries", ("official", "seeded")),
        ("official, seeded,", "eval.galleries", ("official", "seeded")),
        ("indoor", "eval.modes", ("indoor",)),
        ("1,10", "eval.shots", (1, 10)),
        ("()", "model.parts", ()),
        ("6,3", "model.parts", (6, 3)),
        ("", "data.train_splits", ()),
    ],
)
def test_lists_on_the_command_line_need_commas_only(argument, field, expected, monkeypatch):
    config = load_module(CONFIGS[0].parent / "sysu.py").get_config()
    values = flags.FlagValues()
    monkeypatch.setattr("sys.argv", ["main", f"--config.{field}={argument}"])
    config_flags.DEFINE_config_dict("config", config, flag_values=values)
    values(sys.argv)
    config_lib.split_lists(config)
    section, name = field.split(".")
    assert config[section][name] == expected
    assert config.optimizer.milestones == (0.25, 0.62) and config.model.backbone == "resnet50"


def test_training_without_a_split_is_refused():
    config = config_lib.default_config()
    config.data.train_splits = ()
    with pytest.raises(UserError, match="config.data.train_splits is .*such as train,val"):
        config_lib.validate(config)


def test_sysu_val_is_sysu_but_for_validation():
    plain, validation = (load_module(CONFIGS[0].parent / name).get_config() for name in ("sysu.py", "sysu_val.py"))
    changed = {"data.train_splits", "train.steps", "eval.every", "eval.monitor_split", "eval.checkpoint"}
    for field in changed:
        section, name = field.split(".")
        assert plain[section][name] != validation[section][name]
        plain[section][name] = validation[section][name]
    assert plain.to_dict() == validation.to_dict()
