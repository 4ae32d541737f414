"""A page about a training run: python -m jax_mspac.report --workdir DIR [--against DIR] [--checkpoint best].

Writes report/index.html into the run's folder, one file that needs nothing else, and its pictures as PNG files beside
it: result tables, training curves, ranked galleries, heat maps, translations where the method makes such, a map of
test identities, distances, cameras and settings. A second run on the same data (--against), such as a baseline, is
drawn beside the first.
"""

import pathlib
import time
from typing import TYPE_CHECKING, Any

from absl import app, flags

from jax_mspac.errors import UserError
from jax_mspac.runs import config_file
from jax_mspac.runs.results import SCORE_NAMES, percent
from jax_mspac.runtime import command, disk

if TYPE_CHECKING:
    from jax_mspac.reporting.runs import Run

FOLDER = "report"
# What stands at the top of the page.
PRIMARY = ("rank1", "mAP", "mINP")


def define_flags() -> None:
    """Called by the command alone: other commands have flags of the same names."""
    flags.DEFINE_string("workdir", None, "Folder of the training run.")
    flags.DEFINE_string("against", None, "Folder of a second run on the same data, to draw beside it.")
    flags.DEFINE_string(
        "checkpoint",
        "latest",
        "The checkpoint: latest, best or a step. With a step, the run of --against shows its latest one.",
    )
    flags.DEFINE_string("source", None, "Folder of the original images, if it has moved since the training.")
    flags.DEFINE_string("output", None, "Folder of the page. Default: report in the run's folder.")
    flags.DEFINE_string("data_dir", None, "Folder of the prepared sets, if it has moved since the training.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    values = flags.FLAGS
    if not values.workdir:
        raise app.UsageError("--workdir is required, for example --workdir runs/demo")
    command.quiet_libraries()
    workdir = pathlib.Path(values.workdir).expanduser()
    locations = {"source": values.source, "data_dir": values.data_dir}
    with command.command("the same command starts again"):
        saved = workdir / config_file.FILE
        if saved.exists() and config_file.load(saved).train.compilation_cache:
            command.cache_compilations()
        output = pathlib.Path(values.output or workdir / FOLDER).expanduser()
        with disk.explained({output: "--output"}):
            report(
                workdir,
                against=pathlib.Path(values.against).expanduser() if values.against else None,
                checkpoint=values.checkpoint,
                locations={name: value for name, value in locations.items() if value is not None},
                output=output,
            )


def report(
    workdir: pathlib.Path,
    *,
    against: pathlib.Path | None = None,
    checkpoint: str = "latest",
    locations: dict[str, str] | None = None,
    output: pathlib.Path | None = None,
) -> pathlib.Path:
    """Writes the page of a run.

    Args:
      workdir: folder of the run.
      against: folder of a second run on the same test images.
      checkpoint: "latest", "best" or a step. The second run has no such step, so it shows its latest one.
      locations: fields of `config.data`, "source" and "data_dir", where the data has moved.
      output: folder of the page; default: "report" in the run's folder.

    Returns:
      The path of the page.

    Raises:
      UserError: there is no such run, checkpoint or data, or the runs were tested on other images.
    """
    if checkpoint not in ("latest", "best") and not checkpoint.isdecimal():
        raise UserError(f"--checkpoint is {checkpoint!r}; expected latest, best or a step")
    # JAX, TensorFlow and matplotlib take seconds to import: --help and a wrong flag answer without them.
    from jax_mspac.reporting import page, runs, sections

    def told(what: str) -> None:
        print(f"{time.monotonic() - start:5.0f} s  {what}", flush=True)

    start = time.monotonic()
    told(f"embedding the test images of {workdir}")
    run = runs.load(workdir, checkpoint=checkpoint, locations=locations or {})
    other = None
    if against is not None:
        told(f"embedding them with {against}")
        second = "latest" if checkpoint.isdecimal() else checkpoint
        other = runs.load(against, checkpoint=second, locations=locations or {}, same_as=run)
    drawn: list[page.Section] = []
    for what, draw in (
        ("the results", lambda: sections.results(run, other)),
        ("training curves", lambda: sections.training(run, other)),
        ("ranked galleries", lambda: sections.galleries(run)),
        ("heat maps", lambda: sections.attention(run, other)),
        ("translations", lambda: sections.translated(run)),
        ("the map of identities", lambda: sections.map_of_identities(run, other)),
        ("histograms of distances", lambda: sections.distances(run, other)),
        ("cameras", lambda: sections.by_camera(run)),
        ("settings", lambda: sections.settings(run, other)),
    ):
        told(f"drawing {what}")
        section = draw()
        drawn += [section] if section else []
    path = page.write(
        page.Page(
            title=f"Run {workdir.resolve().name}",
            **_head(run, other),
            notes=tuple(run.notes),
            sections=tuple(drawn),
        ),
        output or workdir / FOLDER,
    )
    told(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return path


def _head(run: "Run", other: "Run | None") -> dict[str, Any]:
    """The page's lead and its figures: the primary metric's scores, with the second run's by the same protocol."""
    from jax_mspac.reporting.scores import describe, primary, same
    from jax_mspac.runs import provenance

    config, images = run.config, run.test.image_set
    text = (
        f"Method {config.method} on {config.data.name}, checkpoint of step {run.step}, feature {config.eval.feature}"
        f"{' averaged over horizontal flips' if config.eval.flip else ''}; {len(images):,} test images of "
        f"{images.num_identities:,} identities"
        + ("." if run.trained or provenance.unknown(run.provenance) else " that training has not seen.")
    )
    if other is not None:
        text += f" The second run is {other.workdir.resolve().name}, checkpoint of step {other.step}."
    row = primary(run.records.results)
    if row is None:
        return {"lead": text, "figures": ()}
    second = same(row, other.records.results) if other is not None else None
    figures = []
    for score in PRIMARY:
        beside = f" (second run {percent(second[score]['mean'])} %)" if second is not None else ""
        figures.append((f"{percent(row[score]['mean'])} %", SCORE_NAMES[score] + beside))
    return {"lead": f"{text} Primary metric: {describe(row)}.", "figures": tuple(figures)}


if __name__ == "__main__":
    define_flags()
    command.run(main, flags_parser=command.parse_flags)
