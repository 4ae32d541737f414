"""`python -m jax_mspac.search add`: its flags, and what it prints."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from absl import flags

from jax_mspac.errors import UserError
from jax_mspac.runtime import command

if TYPE_CHECKING:
    from jax_mspac.runs.inference import Model
    from jax_mspac.search.adding import Added
    from jax_mspac.search.index import Index

_OF_FOOTAGE = {"video", "frames", "boxes", "detector", "detector_layout", "fps", "every", "margin", "min_score"}
_OF_IMAGES = {"images", "metadata"}
_OF_PROCESSES = {"distributed", "coordinator_address", "num_processes", "process_id"}
# What this file adds to the flags of the action.
FLAGS = _OF_FOOTAGE | _OF_PROCESSES
_SHOWN = 10


def define_flags(values: flags.FlagValues) -> None:
    """The flags of footage, and of processes that add together."""
    flags.DEFINE_string("video", None, "Of add: a video file, instead of images.", flag_values=values)
    flags.DEFINE_string("frames", None, "Of add: a folder of frames, instead of images.", flag_values=values)
    flags.DEFINE_string(
        "boxes", None, "Of add: people in these frames: a MOTChallenge or CSV file.", flag_values=values
    )
    flags.DEFINE_string(
        "detector", None, "Of add: what finds people instead: hog, or an .onnx file of YOLO.", flag_values=values
    )
    flags.DEFINE_string(
        "detector_layout", None, "Of its output, where that does not tell: yolov5, yolov8, yolov10.", flag_values=values
    )
    flags.DEFINE_float("fps", None, "Of add: frames a second; a video mostly tells them.", flag_values=values)
    flags.DEFINE_integer("every", 1, "Of add: take one frame in so many.", lower_bound=1, flag_values=values)
    flags.DEFINE_float(
        "margin", 0.0, "Of add: around boxes, a share of their width and height on each side.", flag_values=values
    )
    flags.DEFINE_float("min_score", None, "Of add: boxes of a lower score do not count.", flag_values=values)
    flags.DEFINE_bool(
        "distributed",
        False,
        "Of add: share the images with the processes that Slurm and the like started.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator_address", None, "HOST:PORT of process 0, where --distributed finds nothing.", flag_values=values
    )
    flags.DEFINE_integer("num_processes", None, "With --coordinator_address: how many.", flag_values=values)
    flags.DEFINE_integer("process_id", None, "With --coordinator_address: which, from 0.", flag_values=values)


def is_shared(values: flags.FlagValues) -> bool:
    """Whether several processes add together."""
    return any(values[flag].present and values[flag].value for flag in _OF_PROCESSES - {"process_id"})


@contextlib.contextmanager
def opened(values: flags.FlagValues) -> Iterator["Index"]:
    """The index to add to, begun where there is none, on all processes that add together."""
    # NumPy and JAX take seconds to import: --help and a wrong flag answer without them.
    from jax_mspac.runtime import distributed, memory
    from jax_mspac.search.index import Index

    processes = {name: values[name].value for name in _OF_PROCESSES - {"distributed"}}
    with distributed.joined(detect=values.distributed, **processes):
        # Before anything asks JAX for its devices.
        memory.keep()
        if is_shared(values):
            # One after the other: the first one begins it.
            index = distributed.in_turn(lambda: Index.open(values.index))
        else:
            index = Index.open(values.index)
        with index:
            yield index


def run(index: "Index", named: list[str], values: flags.FlagValues) -> None:
    """Adds what the words and flags of a command line name, and prints what was done.

    Raises:
      UserError: they contradict each other, or something could not be read.
    """
    from jax_mspac.runtime import accelerators, distributed
    from jax_mspac.search import texts

    _check(named, values)
    if (told := accelerators.unused()) and distributed.is_main():
        print(told, file=sys.stderr, flush=True)
    before = len(index)
    footage = values.video or values.frames
    added = (_footage if footage else _images)(index, named, values)
    if values.json:
        print(texts.as_json({"added": added, "entries": len(index)}))
    else:
        print(
            f"{added.new:,} new, {added.replaced:,} replaced, {added.relabeled:,} with other labels, "
            f"{added.unchanged:,} as they were; the index had {before:,} entries and has {len(index):,}"
        )
    if added.unreadable:
        lines = [f"  {texts.plain(path)}: {texts.plain(why)}" for path, why in added.unreadable.items()]
        more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        told = "\n".join([*lines[:_SHOWN], *more])
        total = added.new + added.replaced + added.relabeled + added.unchanged + len(lines)
        what = "not all frames and boxes" if footage else f"{len(lines)} of {total} images"
        raise UserError(f"{what} can{'' if footage else 'not'} be read; the others are in the index:\n{told}")


def model(index: "Index", values: flags.FlagValues) -> "Model":
    """The model of --model, or the one of the index."""
    from jax_mspac.runs import config_file, inference

    own = index.model or {}
    workdir, step = values.model, values.checkpoint
    if workdir is None:
        if not own:
            raise UserError(f"{values.index}: the index has no model yet; name the folder of a training run by --model")
        workdir, step = own["workdir"], str(own["step"])
    saved = pathlib.Path(workdir).expanduser() / config_file.FILE
    if saved.exists() and config_file.load(saved).train.compilation_cache:
        command.cache_compilations()
    return inference.load(workdir, step)


def _images(index: "Index", named: list[str], values: flags.FlagValues) -> "Added":
    from jax_mspac.runtime import distributed
    from jax_mspac.search import texts

    return index.add(
        [*values.images, *named],
        model=model(index, values),
        modality=values.modality,
        camera=values.camera[0] if values.camera else None,
        time=values.time,
        metadata=values.metadata and pathlib.Path(values.metadata).expanduser(),
        batch=values.batch,
        shared=is_shared(values),
        progress=texts.Progress() if distributed.is_main() else None,
    )


def _footage(index: "Index", named: list[str], values: flags.FlagValues) -> "Added":
    from jax_mspac.search import detection, texts

    detector = None
    if values.detector:
        detector = detection.load(values.detector, layout=values.detector_layout, min_score=values.min_score)
    return index.add_footage(
        video=values.video,
        frames=values.frames,
        boxes=values.boxes,
        detector=detector,
        min_score=None if detector else values.min_score,
        model=model(index, values),
        modality=values.modality,
        camera=values.camera[0] if values.camera else None,
        time=values.time,
        fps=values.fps,
        every=values.every,
        margin=values.margin,
        batch=values.batch,
        progress=texts.Progress("boxes" if values.boxes else "frames"),
    )


def _check(named: list[str], values: flags.FlagValues) -> None:
    """Raises a UserError where flags are missing or contradict each other."""
    footage = [flag for flag in ("video", "frames") if values[flag].value is not None]
    if len(values.camera) > 1:
        raise UserError(f"--camera is given {len(values.camera)} times; all images of one add are of one camera")
    if footage and is_shared(values):
        raise UserError(f"--{footage[0]} is read by one process; leave --distributed and its like out")
    if not footage:
        if strange := sorted(flag for flag in _OF_FOOTAGE if values[flag].present):
            raise UserError(f"--{strange[0]} is of footage: name it by --video or --frames")
        if not [*values.images, *named]:
            raise UserError("which images? Name files or folders by --images, or footage by --video or --frames")
        return
    if len(footage) > 1:
        raise UserError("--video and --frames are given; add one after the other")
    if named or (strange := sorted(flag for flag in _OF_IMAGES if values[flag].present)):
        what = f"--{strange[0]}" if not named else named[0]
        raise UserError(f"{what} is of images; add them and --{footage[0]} one after the other")
    if (values.boxes is None) == (values.detector is None):
        raise UserError(f"where are people in --{footage[0]}? Give --boxes FILE, or --detector FILE.onnx or hog")
    if values.boxes is not None and values.detector_layout is not None:
        raise UserError("--detector_layout is of --detector")
    if values.modality is None:
        raise UserError("--modality is required: is the footage visible or infrared?")
