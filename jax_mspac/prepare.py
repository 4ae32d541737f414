"""Checks a data set and prepares it: python -m jax_mspac.prepare --dataset sysu_mm01 --source DIR [--data_dir DIR].

Training does the same on its first run. Done beforehand, it tells whether the copy is complete. It may be interrupted
and started again at any time.
"""

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import app, flags

from jax_mspac.errors import UserError
from jax_mspac.runtime import command

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

    from jax_mspac.data.image_files import ImageFile

# Data set -> the config that trains on it.
CONFIGS = {"sysu_mm01": "sysu", "regdb": "regdb", "llcm": "llcm", "folder": "folder"}

# One row of the table: split, part of it, found and expected images, found and expected identities.
Row = tuple[str, str, int, int | None, int, int | None]


def define_flags() -> None:
    """Called by the command alone: other commands have flags of the same names."""
    flags.DEFINE_enum("dataset", None, list(CONFIGS), "The data set.")
    flags.DEFINE_string("source", None, "The folder with the original images.")
    flags.DEFINE_string("data_dir", "", "Where prepared sets are kept. Default: TFDS's own, ~/tensorflow_datasets.")
    flags.DEFINE_bool(
        "skip_bad_images", False, "Leave out images that cannot be read and count them, where the set would be refused."
    )


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    values = flags.FLAGS
    if not values.dataset or not values.source:
        raise app.UsageError("--dataset and --source are required")
    command.quiet_libraries()
    with command.command("nothing is kept of an unfinished set; the same command starts again"):
        prepare(
            values.dataset,
            source=values.source,
            data_dir=values.data_dir,
            skip_bad_images=values.skip_bad_images,
        )


def prepare(dataset: str, *, source: str, data_dir: str, skip_bad_images: bool = False) -> None:
    """Prints what was found against what is expected, then writes the TFDS set unless it is there already.

    RegDB has one set per trial; their table is printed again only where it differs.

    Args:
      dataset: a name of `CONFIGS`.
      source: the folder with the original images.
      data_dir: where TFDS keeps prepared sets, or "" for its default.
      skip_bad_images: leave out images that cannot be read.

    Raises:
      UserError: the source is missing or damaged.
    """
    # TensorFlow takes seconds to import: --help and a wrong flag answer without it.
    from ml_collections import ConfigDict

    from jax_mspac.data import datasets

    shown, errors = None, []
    for options in _sets_of(dataset):
        options |= {"source": source, "skip_bad_images": skip_bad_images}
        builder = datasets.DATASETS[dataset](data_dir=data_dir or None, **options)
        rows = compare(splits_of(builder), _expected(dataset))
        described, alike = builder.builder_config.description, rows == shown
        if not alike:
            print(f"{described}\n\n{_table(rows)}")
            for line in (*warnings(rows), *_remarks(dataset, rows)):
                print(line)
        shown = rows
        state = "already prepared" if builder.is_prepared() else "prepared"
        sys.stdout.flush()  # before the progress bars, which go to stderr
        try:
            builder = datasets.prepared(ConfigDict({"name": dataset, "data_dir": data_dir, **options}))
        except UserError as error:
            errors.append(str(error))
            continue
        print(f"{state}: {builder.data_path}" + (f" ({described}: the same counts)" if alike else ""))
        for note in datasets.notes(builder):
            print(note)
    if errors:
        # What is wrong with the images is wrong in every set.
        raise UserError("\n".join(dict.fromkeys("\n".join(errors).splitlines())))
    moved = f" --config.data.data_dir={shlex.quote(data_dir)}" if data_dir else ""
    moved += " --config.data.skip_bad_images=True" if skip_bad_images else ""
    config = f"configs/{CONFIGS[dataset]}.py"
    print(f"To train: python -m jax_mspac.main --config {config} --config.data.source={shlex.quote(source)}{moved}")


def splits_of(builder: "tfds.core.DatasetBuilder") -> dict[str, list["ImageFile"]]:
    """What a builder is going to store: split -> files, their cameras as numbers from 1.

    Args:
      builder: of a data set in `CONFIGS`; it need not be prepared.
    """
    config = builder.builder_config
    if builder.name == "folder":
        return {
            split: [
                p._replace(camera=str(config.cameras.index(p.camera) + 1))
                for p in config.files
                if p.identity in identities
            ]
            for split, identities in config.splits.items()
        }
    return config.splits


def compare(splits: Mapping[str, Sequence["ImageFile"]], expected: Mapping[str, Mapping[str, int]]) -> list[Row]:
    """Counts each split as a whole, per modality and per camera.

    Args:
      splits: split -> files.
      expected: split -> counts under the names of `sysu_mm01.EXPECTED_COUNTS`; what is not in it is not expected.
    """
    from jax_mspac.modalities import MODALITIES

    rows = []
    for split, files in splits.items():
        counts = expected.get(split, {})
        rows.append(_row(split, "all", files, None, counts.get("identities")))
        for modality in MODALITIES:
            chosen = [p for p in files if p.modality == modality]
            rows.append(_row(split, modality, chosen, counts.get(f"{modality} images"), None))
        cameras = {int(p.camera) for p in files}
        cameras |= {int(name.rpartition(" ")[2]) for name in counts if " camera " in name}
        for camera in sorted(cameras):
            part = f"camera {camera}"
            chosen = [p for p in files if p.camera == str(camera)]
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


def _row(split: str, part: str, files: Sequence["ImageFile"], images: int | None, identities: int | None) -> Row:
    return split, part, len(files), images, len({p.identity for p in files}), identities


def _expected(dataset: str) -> Mapping[str, Mapping[str, int]]:
    from jax_mspac.data import llcm, regdb, sysu_mm01

    modules = {"sysu_mm01": sysu_mm01, "regdb": regdb, "llcm": llcm}
    return modules[dataset].EXPECTED_COUNTS if dataset in modules else {}


def _sets_of(dataset: str) -> list[dict[str, Any]]:
    """Options of the sets that the config of a data set trains on."""
    from jax_mspac.data import regdb

    return [{"trial": trial} for trial in range(1, regdb.TRIALS + 1)] if dataset == "regdb" else [{}]


def _remarks(dataset: str, rows: Iterable[Row]) -> list[str]:
    if dataset == "llcm":
        whole = [row for row in rows if row[1] == "all"]
        images, identities = sum(row[2] for row in whole), sum(row[4] for row in whole)
        return [f"Published: 46,767 images of 1,064 identities; here: {images:,} of {identities:,}."]
    return []


if __name__ == "__main__":
    define_flags()
    command.run(main)
