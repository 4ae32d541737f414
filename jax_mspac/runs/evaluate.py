"""From a model to results.json and the table: at the end of training, or of a checkpoint."""

import json
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.data import datasets
from jax_mspac.evaluation.evaluator import Embed, Evaluator, compiled_embed
from jax_mspac.runs import results
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runtime import distributed, parallel

BASELINES_FILE = "baselines.json"

PyTree = Any
Baselines = dict[str, dict[str, float]]


def evaluate_checkpoint(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    """Evaluates `eval.checkpoint` of a training run without its optimizer state.

    Args:
      config: validated; its `data` and `eval` say what to evaluate on. What the model is comes from the run itself.
      workdir: folder of the training run.

    Returns:
      The results: see `results`.

    Raises:
      UserError: there is no such run, checkpoint or data.
    """
    distributed.check_shared(workdir)
    trained = config_lib.load(workdir / config_lib.FILE)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.update({name: trained[name] for name in ("method", "model", "loss")})
        config.data.update({name: trained.data[name] for name in ("height", "width")})
    method = methods.build(config, num_identities=1)  # the classes matter to training alone
    with Checkpoints(workdir / FOLDER, read_only=True) as checkpoints:
        like = jax.eval_shape(method.init, jax.random.key(0)).variables
        step, variables = checkpoints.find_variables(config.eval.checkpoint, like)
    variables = parallel.replicate(variables)
    builder = distributed.in_turn(lambda: datasets.prepared(config.data))
    test = Evaluator(datasets.load(builder, ("test",)), config)
    distributed.check_same("the test images", test.image_set.images)
    embed = compiled_embed(method, flip=config.eval.flip)
    return report(config, workdir, test, embed, variables, step=step, notes=datasets.notes(builder))


def report(
    config: ConfigDict,
    workdir: pathlib.Path,
    test: Evaluator,
    embed: Embed,
    variables: PyTree,
    *,
    step: int,
    notes: list[str],
) -> dict[str, Any]:
    """Evaluates on the test split, prints the table and writes it into the workdir."""
    settings = json.loads(config.eval.to_json())
    outcome = {"step": step, "eval": settings, "notes": notes, **test.evaluate(embed, variables)}
    if config.eval.baselines:
        outcome["baselines"] = _saved_baselines(test, workdir) or measure_baselines(test, workdir)
    if distributed.is_main():
        results.write(outcome, workdir)
    print(f"\nResults of step {step}, in percent:\n\n{results.markdown(outcome)}", flush=True)
    print(f"Written to {workdir / results.JSON_FILE} and {workdir / results.MARKDOWN_FILE}", flush=True)
    return outcome


def measure_baselines(test: Evaluator, workdir: pathlib.Path, **features: Any) -> Baselines:
    """Measures what no training reaches, prints it and keeps it in the workdir.

    Args:
      test: of the test split.
      workdir: folder of the run.
      **features: further baselines by name: [N, D] each, in the order of the test set.
    """
    baselines = test.baselines() | {name: test.baseline(values) for name, values in features.items()}
    if distributed.is_main():
        path = workdir / BASELINES_FILE
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"of": test.fingerprint, "baselines": baselines}, indent=2) + "\n")
        partial.replace(path)
    text = ", ".join(f"{name} {100 * s['rank1']:.1f} / {100 * s['mAP']:.1f}" for name, s in baselines.items())
    print(f"baselines on the test split (rank-1 / mAP, percent): {text}", flush=True)
    return baselines


def _saved_baselines(test: Evaluator, workdir: pathlib.Path) -> Baselines | None:
    path = workdir / BASELINES_FILE
    if not path.exists():
        return None
    saved = json.loads(path.read_text())
    return saved["baselines"] if saved["of"] == test.fingerprint else None
