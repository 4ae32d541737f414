"""Checkpoints of public PyTorch code as the folder of a run, and back."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.models import layouts, weight_files
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.pretrained import TorchNames
from jax_mspac.runs import config_file, provenance, weights_folder, workdir
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runs.experiment import Experiment
from jax_mspac.runtime import disk
from jax_mspac.runtime.fields import ConfigDict

_SHOWN = 5


def convertible() -> dict[str, layouts.Layout]:
    """The known layouts of public code, by the name of its system."""
    return {name: system.layout for name, system in methods.METHODS.items() if system.layout}


def from_torch(weights: pathlib.Path, folder: pathlib.Path, config: ConfigDict) -> None:
    """Makes the folder of a run of a checkpoint, to load, evaluate and report, and to start another run from.

    Args:
      weights: the file.
      folder: of the new run.
      config: `method` names the system. What the file decides is set by it; the rest is the system's and the config's.

    Raises:
      UserError: the file cannot be read or is of another code or network, or the folder holds a run.
    """
    layout = _layout(config.method)
    tensors = layout.renamed(weight_files.load_tensors(weights))
    if missing := layout.lacks(tensors):
        raise UserError(_of_another_code(weights, config.method, missing, tensors))
    held = layout.settings(tensors)
    config = _configured(config, held, weights)
    classes = layout.classes(tensors)
    if any(path.name.isdecimal() for path in (folder / FOLDER).glob("*")):
        raise UserError(f"{folder} holds a run already: name another --workdir")
    method = methods.build(config, num_identities=classes)
    # The default generator takes three times as long to compile for the many shapes of a network.
    state = jax.device_get(jax.jit(method.init)(jax.random.key(config.seed, impl="rbg")))
    networks = {**state.variables, **state.training["networks"]}
    networks |= layouts.load(networks, tensors, layout, _names(config), source=str(weights))
    state = state.replace(
        variables={name: networks[name] for name in state.variables},
        training={**state.training, "networks": {name: networks[name] for name in state.training["networks"]}},
    )
    with workdir.opened(config, folder) as folder, Checkpoints(folder / FOLDER) as checkpoints:
        provenance.keep(folder, provenance.imported(weights))
        checkpoints.save(state)
    print(f"{weights}: {len(tensors)} tensors, {classes} training identities", flush=True)
    for field, value in held.items():
        print(f"  {field} is {value!r}, from the file")
    if config.model.pooling == "gem":
        print(f"  model.gem_exponent is {config.model.gem_exponent}, which is in no file: of that code, see its source")
    print(f"Written to {folder}: whom it was trained on is not known", flush=True)


def to_torch(folder: pathlib.Path, checkpoint: str, output: pathlib.Path, *, flag: str = "--weights") -> None:
    """Writes the state_dict of a run, as the public code of its system loads it.

    Args:
      folder: of the run.
      checkpoint: "latest", "best" or a step.
      output: the file.
      flag: that names it, for errors.

    Raises:
      UserError: torch is missing, there is no such run, or the public code has no place for what it learned.
    """
    experiment = Experiment.opened(folder)
    config = experiment.config
    layout = _layout(config.method)
    if weights_folder.is_one(folder) and not (folder / FOLDER).exists():
        raise UserError(
            f"{folder} holds what embedding needs alone, and the public code also loads a classifier: name the folder "
            "of the run"
        )
    with Checkpoints(folder / FOLDER, read_only=True) as checkpoints:
        step = checkpoints.find(checkpoint)
        classes = checkpoints.shapes(step)["training/training/networks/heads/params/classifier"][-1]
        like = jax.eval_shape(experiment.method(classes).init, jax.random.key(0))
        state = checkpoints.restore(step, like)
    networks = {**state.variables, **state.training["networks"]}
    tensors = layouts.tensors_of(networks, layout, _names(config), source=str(folder))
    with disk.explained({output: flag}):
        weight_files.save_torch(output, {layout.nest: tensors, "epoch": step} if layout.nest else tensors)
    print(f"Written to {output}: {len(tensors)} tensors of step {step}, {classes} training identities", flush=True)
    fields = config_file.flat(config)
    for field, value in methods.named(config.method).settings.items():
        if field.startswith("model.") and fields[field] != value:
            print(f"  {field} is {fields[field]!r} here and {value!r} in the public code: build its network so")


def _layout(method: str) -> layouts.Layout:
    if method not in convertible():
        raise UserError(f"no layout of public checkpoints of {method} is known; there are {', '.join(convertible())}")
    return convertible()[method]


def _names(config: ConfigDict) -> TorchNames:
    return BACKBONES[config.model.backbone].torch_names


def _configured(config: ConfigDict, held: Mapping[str, Any], weights: pathlib.Path) -> ConfigDict:
    """The config of the run: the user's, the system's, and what the file decides, which must not contradict."""
    chosen = config_lib.chosen(config)
    fields = config_file.flat(config)
    if wrong := [field for field, value in held.items() if field in chosen and fields[field] != value]:
        lines = (f"config.{field} is {fields[field]!r}, the file holds {held[field]!r}" for field in wrong)
        raise UserError(f"{weights} is of another network than the config:\n  " + "\n  ".join(lines))
    config = methods.configured(config, chosen=chosen)
    # Nothing else is loaded, and nothing downloaded.
    config.update_from_flattened_dict({**held, "model.pretrained": "none"})
    config_lib.validate(config)
    return config


def _of_another_code(weights: pathlib.Path, method: str, missing: list[str], tensors: Mapping[str, np.ndarray]) -> str:
    others = [n for n, other in convertible().items() if not other.lacks(other.renamed(tensors))]
    text = (
        f"{weights} is no checkpoint of the public code of {method}: "
        f"it has no tensor whose name begins with {missing[0]}; "
    )
    if others:
        return text + f"it looks like one of {' or '.join(others)}: --from {others[0]}"
    if any(name.startswith(("conv1.", "layer1.")) for name in tensors):
        return text + "it looks like a backbone, which a training can start from: --config.model.pretrained=FILE"
    beginnings = dict.fromkeys(name.partition(".")[0] for name in tensors)
    return text + f"its names begin with {', '.join(list(beginnings)[:_SHOWN])}"
