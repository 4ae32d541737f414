"""Runs and images for tests of the index, and processes that add to one."""

import os

import numpy as np
from absl import flags
from PIL import Image

import jax_mspac
from helpers import small_runs
from jax_mspac import methods
from jax_mspac.methods.base import System
from jax_mspac.search import __main__ as door
from jax_mspac.training import loop


def trained(folder, name, *, width=None, **changes):
    """The folder of a run of one step on the tree in `folder`; `width` is that of its features."""
    small_runs.register()
    system = f"linear {width}" if width else "linear"
    if width:
        build = lambda config, *, num_identities: small_runs.Linear(num_identities, width)  # noqa: E731
        methods.METHODS[system] = System(title="Linear", build=build)
    changes = {"train.steps": 1, "eval.every": 0, "checkpoint.every": 1, "method": system, **changes}
    loop.train(small_runs.config_of(folder, **changes), folder / name)
    return folder / name


def draw_noise(folder, count, *, seed=0):
    """Draws images 0.png, 1.png, ... that all differ, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    images = np.random.default_rng(seed).integers(0, 256, (count, 32, 16, 3), np.uint8)
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path, compress_level=1)
    return paths


def start_adding(index, images, run, told):
    """A process that adds images and appends to the file `told` how many are stored, as soon as it is told so."""
    small_runs._ensure_server()
    process = small_runs.PROCESSES.Process(target=_add, args=(index, images, run, told))
    process.start()
    return process


def start_adding_footage(index, footage, run, told):
    """A process that adds footage, keyword arguments of `Index.add_footage`, and appends to `told` as it comes on."""
    small_runs._ensure_server()
    process = small_runs.PROCESSES.Process(target=_add_footage, args=(index, footage, run, told))
    process.start()
    return process


def start_sharing(arguments, output, *, address, number, count=2):
    """Process `number` of those that add together by the command; what it says goes to the file `output`."""
    small_runs._ensure_server()
    process = small_runs.PROCESSES.Process(target=_share, args=(arguments, output, address, number, count))
    process.start()
    return process


def _share(arguments, output, address, number, count):
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    small_runs.register()
    values = flags.FlagValues()
    door.define_flags(values)
    joining = (f"--coordinator_address={address}", f"--num_processes={count}", f"--process_id={number}")
    door.run(values(["search", "add", *map(str, arguments), *joining]), values)


def _add_footage(index, footage, run, told):
    small_runs.register()
    with open(told, "ab", buffering=0) as file, jax_mspac.Index.open(index) as opened:
        opened.add_footage(
            **footage,
            model=run,
            modality="visible",
            batch=4,
            progress=lambda done, count: os.write(file.fileno(), f"{done} ".encode()),
        )


def _add(index, images, run, told):
    small_runs.register()
    with open(told, "ab", buffering=0) as file, jax_mspac.Index.open(index) as opened:
        opened.add(
            images,
            model=run,
            modality="visible",
            batch=4,
            progress=lambda done, count: os.write(file.fileno(), f"{done} ".encode()),
        )
