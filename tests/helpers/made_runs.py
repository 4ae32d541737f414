"""Folders of runs that were never trained: a config, weights drawn at random and a record, made without compiling."""

import jax
import numpy as np

from helpers.steps import CLASSES
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.methods.base import State
from jax_mspac.models import resnet
from jax_mspac.runs import workdir
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints

HEIGHT, WIDTH = 96, 32
# A block in each stage.
SHALLOW = resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1))


def config_of(system, **changes):
    """A narrow network for small images; the rest is the system's."""
    config = config_lib.default_config()
    small = {"method": system, "data.height": HEIGHT, "data.width": WIDTH, "model.width": 4, "eval.flip": False}
    if methods.named(system).settings.get("model.embedding_dim"):
        small["model.embedding_dim"] = 8
    config.update_from_flattened_dict(small | changes)
    config = methods.configured(config, chosen={*small, *changes})
    config_lib.validate(config)
    return config


def drawn(tree, seed=0):
    """Weights of sizes that keep activations in bounds, and in which no two images, channels or layers are alike."""
    rng = np.random.default_rng(seed)

    def leaf(path, like):
        *above, name = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        value = rng.standard_normal(like.shape)
        if name == "p":
            value = 3 + 0 * value
        elif name in ("scale", "var"):
            value = 1 + 0.3 * abs(value)
        elif name == "kernel":
            # Attention multiplies three maps.
            attends = any(part.startswith(("nonlocal", "multi_scale", "frequency")) for part in above)
            value *= np.sqrt((0.01 if attends else 2) / np.prod(like.shape[:-1]))
        else:
            value *= 0.1
        return value.astype(like.dtype)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def make(folder, system, *, step=3, **changes):
    """A run of a system with one checkpoint; `changes` are fields such as "model.width"."""
    config = config_of(system, **changes)
    method = methods.build(config, num_identities=CLASSES)
    like = jax.eval_shape(method.init, jax.random.key(0))
    networks = {name: drawn(tree) for name, tree in like.training.get("networks", {}).items()}
    state = State(np.int32(step), drawn(like.variables), {"networks": networks})
    with workdir.opened(config, folder) as folder, Checkpoints(folder / FOLDER) as checkpoints:
        checkpoints.save(state)
    return folder
