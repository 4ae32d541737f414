"""From a model to results.json and the table: at the end of training, or of a checkpoint."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jax_mspac.evaluation.evaluator import Embed, Evaluator
from jax_mspac.runs import results
from jax_mspac.runs.experiment import Experiment
from jax_mspac.runtime import distributed, parallel
from jax_mspac.runtime.files import write_whole

BASELINES_FILE = "baselines.json"

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
      UserError: there is no such run, checkpoint or data.
    """
    distributed.check_shared(workdir)
    experiment = Experiment.opened(workdir, asked=config)
    step, variables = experiment.restore(experiment.evaluation.checkpoint)
    return report(experiment, experiment.evaluator(), experiment.embed(), parallel.replicate(variables), step=step)


def report(experiment: Experiment, test: Evaluator, embed: Embed, variables: PyTree, *, step: int) -> dict[str, Any]:
    """Evaluates on the test split, prints the table and writes it into the workdir."""
    workdir = experiment.workdir
    outcome = {
        "step": step,
        "eval": experiment.evaluation_record(),
        "notes": experiment.notes,
        **test.evaluate(embed, variables),
    }
    if experiment.evaluation.baselines:
        outcome["baselines"] = _saved_baselines(test, workdir) or measure_baselines(test, workdir)
    publish(outcome, workdir, of=f"step {step}")
    return outcome


def publish(outcome: Mapping[str, Any], workdir: pathlib.Path, *, of: str) -> None:
    """Prints the table and, in the main process, writes both files.

    Args:
      outcome: see `results.markdown`.
      workdir: an existing folder.
      of: what the results are of, for the heading.
    """
    if distributed.is_main():
        results.write(outcome, workdir)
    print(f"\nResults of {of}, in percent:\n\n{results.markdown(outcome)}", flush=True)
    print(f"Written to {workdir / results.JSON_FILE} and {workdir / results.MARKDOWN_FILE}", flush=True)


def measure_baselines(
    test: Evaluator, workdir: pathlib.Path, features: Mapping[str, np.ndarray] | None = None
) -> Baselines:
    """Measures what needs no training, prints it and keeps it in the workdir.

    Args:
      test: of the test split.
      workdir: folder of the run.
      features: further baselines by name: [N, D] each, in the order of the test set.
    """
    baselines = test.baselines() | {name: test.baseline(values) for name, values in (features or {}).items()}
    if distributed.is_main():
        measured = {"of": test.fingerprint, "baselines": baselines}
        write_whole(workdir / BASELINES_FILE, json.dumps(measured, indent=2) + "\n")
    text = ", ".join(f"{name} {100 * s['rank1']:.1f} / {100 * s['mAP']:.1f}" for name, s in baselines.items())
    print(f"baselines on the test split (rank-1 / mAP, percent): {text}", flush=True)
    return baselines


def _saved_baselines(test: Evaluator, workdir: pathlib.Path) -> Baselines | None:
    path = workdir / BASELINES_FILE
    if not path.exists():
        return None
    saved = json.loads(path.read_text())
    return saved["baselines"] if saved["of"] == test.fingerprint else None
