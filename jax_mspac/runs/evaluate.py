"""From a model to results.json and the table: at the end of training, or of a checkpoint."""

import json
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_mspac.data.image_set import ImageSet
from jax_mspac.evaluation.evaluator import Embed, Evaluator
from jax_mspac.runs import provenance, results
from jax_mspac.runs.experiment import Experiment
from jax_mspac.runtime import distributed, parallel
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.runtime.files import write_whole

BASELINES_FILE = "baselines.json"
# Evaluations on other test images than the run's own lie here, in a folder each.
OTHERS = "evaluations"

PyTree = Any
Baselines = dict[str, dict[str, float]]


def evaluate_checkpoint(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    """Evaluates `eval.checkpoint` of a training run without its optimizer state.

    Args:
      config: its `data` and `eval` say what to evaluate on. What the model is comes from the run itself.
      workdir: folder of the training run.

    Returns:
      The results: see `results`.

    Raises:
      UserError: there is no such run, checkpoint or data, or the run was trained on the test identities.
    """
    distributed.check_shared(workdir)
    experiment = Experiment.opened(workdir, asked=config)
    step, variables = experiment.restore(experiment.evaluation.checkpoint)
    return report(experiment, experiment.evaluator(), experiment.embed(), parallel.replicate(variables), step=step)


def report(experiment: Experiment, test: Evaluator, embed: Embed, variables: PyTree, *, step: int) -> dict[str, Any]:
    """Evaluates on the test split, prints the table and writes it: see `publish`."""
    record, images, name = provenance.read(experiment.folder), test.image_set, experiment.config.data.name
    trained = trained_identities(experiment, images, record)
    data = {"name": name, **provenance.summary(images)}
    data["own"] = record is None or record["test"] is None or record["test"]["digest"] == data["digest"]
    notes = experiment.notes
    if why := provenance.unknown(record):
        notes.append(why)
    if not data["own"]:
        notes.append(f"Test images of {name} that are not those which the run recorded when it began.")
    outcome = {
        "method": experiment.config.method,
        "step": step,
        "data": data,
        "eval": experiment.evaluation_record(),
        "notes": notes,
        **test.evaluate(embed, variables),
    }
    if trained:
        marked = {"trained_identities": len(trained), "test_identities": images.num_identities}
        outcome["rows"] = [{**row, **marked} for row in outcome["rows"]]
    folder = place_of(outcome, experiment.folder)
    if experiment.evaluation.baselines:
        outcome["baselines"] = _saved_baselines(test, folder) or measure_baselines(test, folder)
    publish(outcome, folder, of=f"step {step} on {name}")
    print(f"For pictures: python -m jax_mspac.report --workdir {shlex.quote(str(experiment.folder))}", flush=True)
    return outcome


def trained_identities(experiment: Experiment, images: ImageSet, record: provenance.Record | None) -> list[str]:
    """The test identities that a run was trained on.

    Raises:
      UserError: there are some, and `eval.allow_trained_identities` is not set.
    """
    trained = provenance.seen(record, images, data=experiment.config.data)
    allowed = experiment.evaluation.allow_trained_identities
    provenance.check_unseen(trained, images, trained_in=experiment.folder, allowed=allowed)
    return trained


def place_of(outcome: Mapping[str, Any], workdir: pathlib.Path) -> pathlib.Path:
    """The folder of results: the run's own for those on its own test images, so that no others stand in for them."""
    data = outcome["data"]
    if data["own"]:
        return workdir
    # The average of a series has no digest.
    return workdir / OTHERS / (f"{data['name']}-{data['digest'][:8]}" if "digest" in data else data["name"])


def publish(outcome: Mapping[str, Any], folder: pathlib.Path, *, of: str) -> None:
    """Prints the table and, in the main process, writes both files.

    Args:
      outcome: see `results.markdown`.
      folder: made if it is missing.
      of: what the results are of, for the heading.
    """
    if distributed.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        results.write(outcome, folder)
    print(f"\nResults of {of}, in percent:\n\n{results.markdown(outcome)}", flush=True)
    print(f"Written to {folder / results.JSON_FILE} and {folder / results.MARKDOWN_FILE}", flush=True)


def measure_baselines(
    test: Evaluator, folder: pathlib.Path, features: Mapping[str, np.ndarray] | None = None
) -> Baselines:
    """Measures what needs no training, prints it and keeps it.

    Args:
      test: of the test split.
      folder: of the results; made if it is missing.
      features: further baselines by name: [N, D] each, in the order of the test set.
    """
    baselines = test.baselines() | {name: test.baseline(values) for name, values in (features or {}).items()}
    if distributed.is_main():
        measured = {"of": test.fingerprint, "baselines": baselines}
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / BASELINES_FILE, json.dumps(measured, indent=2) + "\n")
    text = ", ".join(f"{name} {100 * s['rank1']:.1f} / {100 * s['mAP']:.1f}" for name, s in baselines.items())
    print(f"baselines on the test split (rank-1 / mAP, percent): {text}", flush=True)
    return baselines


def _saved_baselines(test: Evaluator, folder: pathlib.Path) -> Baselines | None:
    path = folder / BASELINES_FILE
    if not path.exists():
        return None
    saved = json.loads(path.read_text())
    return saved["baselines"] if saved["of"] == test.fingerprint else None
