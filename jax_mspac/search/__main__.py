"""An index of embedded images: python -m jax_mspac.search ACTION --index DIR ...

    add    --index DIR --model WORKDIR --images FOLDER --modality visible [--camera NAME] [--time TIME] [--metadata CSV]
    add    --index DIR --model WORKDIR --video FILE --boxes FILE --modality visible [--camera NAME] [--time TIME]
    query  --index DIR --modality infrared IMAGE... [--camera NAME] [--since TIME] [--until TIME] [--sheet FILE.png]
    list   --index DIR [--camera NAME] [--since TIME] [--until TIME]
    info   --index DIR
    remove --index DIR [PATH...] [--camera NAME] [--since TIME] [--until TIME]
    calibrate --index DIR [--false_match_rate 0.001] [--labels CSV] [--curve FILE.png]
    serve  --index DIR [--port 8000] [--host 127.0.0.1]
    marks  --index DIR

All images of a query show one person. A second add embeds only new images. See docs/search.md.
"""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from absl import app, flags

from jax_mspac.errors import UserError
from jax_mspac.modalities import MODALITIES
from jax_mspac.runtime import command, disk
from jax_mspac.search import add_command

if TYPE_CHECKING:
    from jax_mspac.search.index import Index

_FILTER = {"camera", "since", "until"}
_MODEL = {"model", "checkpoint"}
# Action -> the flags that it has, besides --index and --json.
ACTIONS = {
    "add": {"images", "modality", "camera", "time", "metadata", "batch", *add_command.FLAGS, *_MODEL},
    "query": {"modality", "of", "top", "sheet", *_FILTER, *_MODEL},
    "list": {"of", *_FILTER},
    "info": set(),
    "remove": _FILTER,
    "calibrate": {"false_match_rate", "labels", "curve", "source", "data_dir", *_MODEL},
    "serve": {"host", "port", *_MODEL},
    "marks": set(),
}


def define_flags(values: flags.FlagValues) -> None:
    """Called by the command alone: other commands have flags of the same names."""
    flags.DEFINE_string("index", None, "Folder of the index, or qdrant+http://HOST:6333/NAME.", flag_values=values)
    flags.DEFINE_bool("json", False, "Print JSON instead of tables.", flag_values=values)
    flags.DEFINE_string(
        "model", None, "Folder of the run whose model embeds. Default: the one of the index.", flag_values=values
    )
    flags.DEFINE_string("checkpoint", "latest", "Of --model: latest, best or a step.", flag_values=values)
    flags.DEFINE_multi_string(
        "images", [], "Of add: a file or a folder; more may follow, or stand without the flag.", flag_values=values
    )
    flags.DEFINE_enum("modality", None, MODALITIES, "Modality of the images of add or query.", flag_values=values)
    flags.DEFINE_multi_string(
        "camera",
        [],
        "With add: the images' camera. Otherwise: only entries of this camera; may be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "time", None, "Of add: when, such as 2026-11-28T14:05:00+01:00; UTC without a zone.", flag_values=values
    )
    flags.DEFINE_string("metadata", None, "Of add: a CSV file with a column path and any others.", flag_values=values)
    flags.DEFINE_integer(
        "batch", 64, "Of add: images that are embedded and stored at a time.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_string("since", None, "Entries of an earlier time do not count.", flag_values=values)
    flags.DEFINE_string("until", None, "Entries of this time or a later one do not count.", flag_values=values)
    flags.DEFINE_enum("of", None, MODALITIES, "Entries of the other modality do not count.", flag_values=values)
    flags.DEFINE_integer("top", 20, "Of query: how many entries.", lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "sheet",
        None,
        "Of query: a picture of the query and its hits, a .png or .jpg file to write.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "false_match_rate",
        0.001,
        "With calibrate: share of the pairs of two people that may match.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "labels",
        None,
        "With calibrate: a CSV file (path, identity) instead of the run's validation identities.",
        flag_values=values,
    )
    flags.DEFINE_string("curve", None, "Of calibrate: a picture of the error rates to write.", flag_values=values)
    flags.DEFINE_string(
        "source", None, "With calibrate: folder of the run's images, if it has moved.", flag_values=values
    )
    add_command.define_flags(values)
    flags.adopt_module_key_flags(add_command, values)  # --help shows them, too
    flags.DEFINE_string(
        "data_dir", None, "With calibrate: folder of the prepared sets, if it has moved.", flag_values=values
    )
    flags.DEFINE_string(
        "host", "127.0.0.1", "Of serve: the address to listen at; other machines need a token.", flag_values=values
    )
    flags.DEFINE_integer("port", 8000, "Of serve: 0 for any.", lower_bound=0, upper_bound=65535, flag_values=values)


def main(argv: list[str]) -> None:
    run(argv, flags.FLAGS)


def run(argv: list[str], values: flags.FlagValues) -> None:
    """Does what the words and flags of a command line say.

    Args:
      argv: the name of the program, the action, and what else is no flag.
      values: the flags.
    """
    action, named = (argv[1], argv[2:]) if len(argv) > 1 else (None, [])
    if action not in ACTIONS:
        raise app.UsageError(f"expected one of {', '.join(ACTIONS)}, for example: info --index people")
    if not values.index:
        raise app.UsageError("--index is required, for example --index people")
    every = set().union(*ACTIONS.values())
    if strange := sorted(flag for flag in every - ACTIONS[action] if values[flag].present):
        raise app.UsageError(f"--{strange[0]} is no flag of {action}")
    if named and action in ("list", "info", "calibrate", "serve", "marks"):
        raise app.UsageError(f"unexpected arguments {named}")
    command.quiet_libraries()
    with command.command(), disk.explained({values.index: "--index"}):
        # NumPy and JAX take seconds to import: --help and a wrong flag answer without them.
        from jax_mspac.search.index import Index

        with add_command.opened(values) if action == "add" else Index.open(values.index, create=False) as index:
            _RUN[action](index, named, values)


def _query(index: "Index", named: list[str], values: flags.FlagValues) -> None:
    from jax_mspac.data.images import read_rgb
    from jax_mspac.search import texts

    if not named:
        raise UserError("which image? Name one, or several of one person")
    if values.modality is None:
        raise UserError("--modality is required: is the query visible or infrared?")
    _check_picture("sheet", values.sheet)
    images = [pathlib.Path(path).expanduser() for path in named]
    hits = index.query(
        images,
        values.modality,
        model=add_command.model(index, values),
        cameras=values.camera,
        since=values.since,
        until=values.until,
        of=values.of,
        top=values.top,
    )
    if values.sheet:
        from PIL import Image

        from jax_mspac.search import contact_sheet

        pictures = [Image.fromarray(read_rgb(image)) for image in images]
        with _picture_file("sheet", values.sheet) as path:
            contact_sheet.draw(pictures, hits).save(path)
    if values.json:
        print(texts.as_json({"verdict": texts.verdict(hits), "hits": hits}))
    else:
        print(f"{texts.hits_table(hits)}\n\n{texts.verdict(hits)}" if hits else texts.verdict(hits))


def _list(index: "Index", named: list[str], values: flags.FlagValues) -> None:
    from jax_mspac.search import texts
    from jax_mspac.search.entries import Filter, seconds

    wanted = Filter(
        cameras=tuple(values.camera), since=seconds(values.since), until=seconds(values.until), modality=values.of
    )
    entries = index.entries(wanted)
    print(texts.as_json(entries) if values.json else texts.entries_table(entries))


def _info(index: "Index", named: list[str], values: flags.FlagValues) -> None:
    from jax_mspac.search import texts

    print(texts.as_json(index.info()) if values.json else texts.info_text(index.info()))


def _remove(index: "Index", named: list[str], values: flags.FlagValues) -> None:
    from jax_mspac.search import texts

    removed = index.remove(named, cameras=values.camera, since=values.since, until=values.until)
    if values.json:
        print(texts.as_json({"removed": removed, "entries": len(index)}))
    else:
        print(f"{removed:,} entries removed, {len(index):,} left; the image files stay")


def _calibrate(index: "Index", named: list[str], values: flags.FlagValues) -> None:
    from jax_mspac.search import texts

    _check_picture("curve", values.curve)
    locations = {"source": values.source, "data_dir": values.data_dir}
    found = index.calibrate(
        values.false_match_rate,
        labels=values.labels,
        model=add_command.model(index, values),
        locations={name: value for name, value in locations.items() if value is not None},
    )
    if values.curve:
        from jax_mspac.search import curve_picture

        with _picture_file("curve", values.curve) as path:
            curve_picture.draw(found).save(path)
    print(texts.as_json(found) if values.json else texts.thresholds_text(found, entries=len(index)))


def _serve(index: "Index", named: list[str], values: flags.FlagValues) -> None:
    from jax_mspac.search.serving import server

    # Before the model is loaded, which takes longer.
    with contextlib.closing(server.listener(values.host, values.port)) as listening:
        server.serve(values.index, add_command.model(index, values), listening, host=values.host)


def _marks(index: "Index", named: list[str], values: flags.FlagValues) -> None:
    from jax_mspac.search import marks, texts

    with index.marks() as kept:
        rows = kept.rows()
    if values.json:
        print(texts.as_json([dict(zip(marks.COLUMNS, row, strict=True)) for row in rows]))
    else:
        marks.write_csv(rows, sys.stdout)


def _check_picture(flag: str, name: str | None) -> None:
    if name and not name.lower().endswith((".png", ".jpg", ".jpeg")):
        raise UserError(f"--{flag} is {name}; expected a .png or .jpg file")


@contextlib.contextmanager
def _picture_file(flag: str, name: str) -> Iterator[pathlib.Path]:
    """The path of a picture to write, in a folder that is there."""
    path = pathlib.Path(name).expanduser()
    with disk.explained({path.parent: f"--{flag}"}):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path


_RUN: dict[str, Callable[["Index", list[str], Any], None]] = {
    "add": add_command.run,
    "query": _query,
    "list": _list,
    "info": _info,
    "remove": _remove,
    "calibrate": _calibrate,
    "serve": _serve,
    "marks": _marks,
}


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    command.run(main, flags_parser=command.parse_flags)
