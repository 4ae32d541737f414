"""Checks a data set and prepares it: python -m jax_mspac.prepare --dataset sysu_mm01 --source DIR [--data_dir DIR].

Training does the same on its first run. Run this command first to see whether your copy is complete. It may be
interrupted and started again at any time. The fields that a data set adds to config.data are flags here: for --dataset
folder, --rgb=color is what --config.data.rgb=color is in training.

With --export FILE.npz [--height H --width W] it writes one file of decoded images instead, without
TensorFlow. --config.data.memory=FILE.npz then trains and evaluates where TensorFlow is not installed.
"""

import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from absl import app, flags

from jax_mspac.data import memory
from jax_mspac.data.data_set import Counts, ImageFile, Row
from jax_mspac.data.registry import DATA_SETS, named
from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES
from jax_mspac.runtime import command, disk

_DEFINE: dict[type, Callable[..., Any]]
_DEFINE = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}


def define_flags() -> None:
    """Called by the command alone: other commands have flags of the same names."""
    flags.DEFINE_enum("dataset", None, list(DATA_SETS), "The data set.")
    flags.DEFINE_string("source", None, "The folder with the original images.")
    flags.DEFINE_string("data_dir", "", "Where prepared sets are kept. Default: TFDS's own, ~/tensorflow_datasets.")
    flags.DEFINE_bool(
        "skip_bad_images", False, "Leave out images that cannot be read and count them, instead of refusing the set."
    )
    flags.DEFINE_string("export", None, "Write this .npz file of decoded images in place of a TFDS set.")
    flags.DEFINE_integer("height", 288, "Height in pixels of the images of --export and of the synthetic data.")
    flags.DEFINE_integer("width", 144, "Width in pixels of the same images.")
    fields: dict[str, dict[str, Any]] = {}
    for name, data_set in DATA_SETS.items():
        for field, default in data_set.fields.items():
            fields.setdefault(field, {})[name] = default
    for field, defaults in fields.items():
        # A field of two data sets may be a number in one and text in the other: `_typed` reads such a flag.
        kinds = {type(default) for default in defaults.values()}
        owners = ", ".join(f"{name} (default: {default!r})" for name, default in defaults.items())
        _DEFINE[kinds.pop() if len(kinds) == 1 else str](field, None, f"config.data.{field} of {owners}.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    values = flags.FLAGS
    if not values.dataset or (named(values.dataset).has_source and not values.source):
        raise app.UsageError("--dataset and --source are required")
    command.quiet_libraries()
    with command.command("nothing is kept of an unfinished set; the same command starts again"):
        own = named(values.dataset).fields
        others = {field for data_set in DATA_SETS.values() for field in data_set.fields}
        given = {field: values[field].value for field in others if values[field].value is not None}
        if strange := sorted(given.keys() - own.keys()):
            raise UserError(f"--{strange[0]}: {values.dataset} has no such field; it has {', '.join(own) or 'none'}")
        given = {field: _typed(values.dataset, field, value, own[field]) for field, value in given.items()}
        export = pathlib.Path(values.export).expanduser() if values.export else None
        places: dict[str | os.PathLike, str]
        places = {export.parent: "--export"} if export else {disk.sets_folder(values.data_dir): "--data_dir"}
        with disk.explained(places):
            prepare(
                values.dataset,
                source=values.source or "",
                data_dir=values.data_dir,
                skip_bad_images=values.skip_bad_images,
                fields=given,
                export=export,
                size=(values.height, values.width),
            )


def _typed(dataset: str, field: str, value: Any, default: Any) -> Any:
    """The value of a flag in the type of the data set's own field."""
    try:
        return type(default)(value)
    except ValueError:
        raise UserError(
            f"--{field}={value}: with --dataset {dataset} expected a value like {default!r}, of type "
            f"{type(default).__name__}"
        ) from None


def prepare(
    dataset: str,
    *,
    source: str,
    data_dir: str,
    skip_bad_images: bool = False,
    fields: Mapping[str, Any] | None = None,
    export: pathlib.Path | None = None,
    size: tuple[int, int] = (288, 144),
) -> None:
    """Prints what was found against what is expected, then writes the TFDS set unless it is there already.

    A set whose runs are averaged, such as RegDB's trials, is prepared for each of them; the table is printed again only
    where it differs.

    Args:
      dataset: a name of `DATA_SETS`.
      source: the folder with the original images.
      data_dir: where TFDS keeps prepared sets, or "" for its default.
      skip_bad_images: leave out images that cannot be read.
      fields: further fields of `config.data`.
      export: the file to write in place of a TFDS set: see `data.memory`.
      size: (height, width) in pixels of exported images, and of drawn ones.

    Raises:
      UserError: the source is missing or damaged, or a series is to be exported into one file.
    """
    data_set, fields = named(dataset), dict(fields or {})
    common = {**fields, "source": source, "skip_bad_images": skip_bad_images}
    common |= dict(zip(("height", "width"), size, strict=True))
    parts = data_set.parts_of(common)
    if export and parts:
        changed = sorted({field for part in parts.values() for field in part})
        raise UserError(f"--export writes one of the {len(parts)} sets of this series: choose it with --{changed[0]}")
    shown, errors = None, []
    for part in (parts or {"": {}}).values():
        found = data_set.look({**common, **part})
        rows = compare(found.splits, data_set.expected_counts)
        alike = rows == shown
        if not alike:
            print(f"{found.description}\n\n{_table(rows)}")
            for line in (*warnings(rows), *data_set.remarks(rows)):
                print(line)
        shown = rows
        if export:
            try:
                memory.write(export, data_set, found, common)
            finally:
                for line in found.warnings:
                    print(f"warning: {line}", flush=True)
            print(f"written: {export}, {sum(map(len, found.splits.values())):,} images of {size[0]}x{size[1]} pixels")
            continue
        # TensorFlow takes seconds to import: --help and a wrong flag answer without it.
        from jax_mspac.data import preparation

        known = preparation.builder_of(data_set, found, data_dir).is_prepared()
        sys.stdout.flush()  # before the progress bars, which go to stderr
        try:
            builder = preparation.prepared(data_set, {**common, **part}, data_dir)
        except UserError as error:
            errors.append(str(error))
            continue
        state = "already prepared" if known else "prepared"
        print(f"{state}: {builder.data_path}" + (f" ({found.description}: the same counts)" if alike else ""))
        for note in preparation.notes(builder):
            print(note)
    if errors:
        # What is wrong with the images is wrong in every set.
        raise UserError("\n".join(dict.fromkeys("\n".join(errors).splitlines())))
    given = {"source": source, "data_dir": data_dir, **fields, "skip_bad_images": skip_bad_images}
    if export:
        given["memory"] = str(export)
    if export or not data_set.has_source:
        given |= {"height": size[0], "width": size[1]}
    told = [
        f"--config.data.{name}={shlex.quote(str(value))}" for name, value in given.items() if value not in ("", False)
    ]
    print(" ".join((f"To train: python -m jax_mspac.main --config configs/{data_set.config}.py", *told)))


def compare(splits: Mapping[str, Iterable[ImageFile]], expected: Mapping[str, Counts]) -> list[Row]:
    """Counts each split as a whole, per modality and per camera.

    Args:
      splits: split -> its images.
      expected: split -> counts under the names of `DataSet.expected_counts`; what is not in it is not expected.
    """
    rows = []
    for split, images in splits.items():
        counts = expected.get(split, {})
        rows.append(_row(split, "all", images, None, counts.get("identities")))
        for modality in MODALITIES:
            chosen = [image for image in images if image.modality == modality]
            rows.append(_row(split, modality, chosen, counts.get(f"{modality} images"), None))
        cameras = {int(image.camera) for image in images}
        cameras |= {int(name.rpartition(" ")[2]) for name in counts if " camera " in name}
        for camera in sorted(cameras):
            part = f"camera {camera}"
            chosen = [image for image in images if image.camera == str(camera)]
            rows.append(_row(split, part, chosen, counts.get(f"images of {part}"), counts.get(f"identities of {part}")))
    return rows


def warnings(rows: Iterable[Row]) -> list[str]:
    """One line per difference, and what it means."""
    lines = [
        f"warning: {split}, {part}: {found:,} {what}, but the complete set has {expected:,}"
        for split, part, *counts in rows
        for what, found, expected in (("images", *counts[:2]), ("identities", *counts[2:]))
        if expected not in (None, found)
    ]
    advice = "A part of the set works like the whole, but its numbers cannot be compared with published ones."
    return [*lines, advice] if lines else []


def _table(rows: Iterable[Row]) -> str:
    from jax_mspac.runs.results import table

    header = ("split", "part", "images", "expected", "identities", "expected")
    lines = [["-" if cell is None else f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    return table(header, lines)


def _row(split: str, part: str, images: Iterable[ImageFile], number: int | None, identities: int | None) -> Row:
    images = list(images)
    return split, part, len(images), number, len({image.identity for image in images}), identities


if __name__ == "__main__":
    define_flags()
    command.run(main)
