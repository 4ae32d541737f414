"""Files of features of a small SYSU-MM01 test set, and their scores."""

import importlib.util
import json
import pathlib

import numpy as np

from helpers import commands
from jax_mspac import main

ROOT = pathlib.Path(__file__).parents[2]
NUMBERS = [6, 10, 17, 333]
# Infrared and visible images of the small set.
QUERIES, GALLERY = 114, 211
DIRECTIONS = ("visible->infrared", "infrared->visible")


def score(config, path, workdir):
    """The results that the command writes."""
    main.run(config, workdir, "score", features=path)
    return json.loads((workdir / "results.json").read_text())


def sysu_config(**settings):
    spec = importlib.util.spec_from_file_location("sysu", ROOT / "configs" / "sysu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.eval.update(settings)
    return config


def small_set():
    """Columns number, camera, place of a small test set in path order; identity 10 is not in camera 1."""
    return np.array(
        [
            (number, camera, place)
            for camera in range(1, 7)
            for number in NUMBERS
            if (number, camera) != (10, 1)
            for place in range(1, 13 + (number + camera) % 5)
        ]
    )


def small_features(images, seed=0):
    """Features with some signal, so that rows differ from chance."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((334, 16))
    return (centers[images[:, 0]] + 2 * rng.standard_normal((len(images), 16))).astype(np.float32)


def contents(images, features, infrared=(3, 6), swap=False):
    """The keys of a file: infrared images are queries, or with `swap` the gallery."""
    query = np.isin(images[:, 1], infrared) != swap
    return {
        "query_features": features[query],
        "query_ids": images[query, 0],
        "query_cams": images[query, 1],
        "gallery_features": features[~query],
        "gallery_ids": images[~query, 0],
        "gallery_cams": images[~query, 1],
        "gallery_index": images[~query, 2],
    }


def save(folder, keys):
    np.savez(folder / "given.npz", **keys)
    return folder / "given.npz"


def rows_of(folder, keys, config):
    return score(config, save(folder, keys), folder / "out")["rows"]


def shuffled_gallery(keys):
    order = np.random.default_rng(2).permutation(len(keys["gallery_ids"]))
    return keys | {name: values[order] for name, values in keys.items() if name.startswith("gallery")}


def command(folder, *arguments):
    given = ["--config", ROOT / "configs" / "sysu.py", *arguments]
    return commands.run("jax_mspac.main", *given, cwd=folder, home=folder)
