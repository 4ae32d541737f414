"""The stand-in for `ConfigDict` does what `ConfigDict` does, as far as the library asks for it."""

import json
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from jax_mspac.runtime.fields import Fields

PROGRAM = """
import sys
if sys.argv[1] == "without":
    sys.modules["ml_collections"] = None
from configs import demo, sysu
from jax_mspac import config, methods
from jax_mspac.runs import config_file
for made in (demo.get_config(), sysu.get_config()):
    made.update_from_flattened_dict({"method": "agw", "train.steps": 7})
    chosen = config.chosen(made)
    made = methods.configured(made, chosen=chosen)
    config.split_lists(made)
    config.validate(made)
    print(made.to_json(sort_keys=True), sorted(chosen))
    config_file.save(made, sys.argv[2])
    print(config_file.differences(config_file.load(sys.argv[2]), demo.get_config()))
"""


def test_configs_are_the_same_with_and_without_ml_collections(tmp_path):
    said = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, which, tmp_path / "config.json"], capture_output=True, text=True, check=True
        ).stdout
        for which in ("with", "without")
    ]
    assert said[0] == said[1] and "config.train.steps was 7" in said[0]


@pytest.mark.parametrize("kind", [ConfigDict, Fields])
def test_fields_are_set_read_copied_and_written_alike(kind):
    fields = kind({"a": {"b": 1, "c": (1, 2)}, "d": "x"})
    fields.a.b = 2
    fields["e"] = {"f": None}
    copy = fields.copy_and_resolve_references()
    with copy.unlocked():
        copy.update({"a": {"b": 3}, "g": 4})
        copy.update_from_flattened_dict({"a.c": (5,), "e.f": 6})
    assert fields.to_dict() == {"a": {"b": 2, "c": (1, 2)}, "d": "x", "e": {"f": None}}
    assert copy.to_dict() == {"a": {"b": 3, "c": (5,)}, "d": "x", "e": {"f": 6}, "g": 4}
    assert type(copy.a) is kind and "b" in copy.a and copy.get("z") is None and set(copy.a) == {"b", "c"}
    assert json.loads(copy.to_json()) == {"a": {"b": 3, "c": [5]}, "d": "x", "e": {"f": 6}, "g": 4}
    with pytest.raises(AttributeError):
        _ = fields.z
    with pytest.raises(KeyError):
        fields.update_from_flattened_dict({"z.y": 1})
