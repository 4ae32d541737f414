"""The card of a model: what it is, what it was trained on and how it scores, from the records of its run."""

import datetime
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax_mspac
from jax_mspac import methods
from jax_mspac.data import registry
from jax_mspac.export.source import Source
from jax_mspac.models.weight_files import HUB
from jax_mspac.runs import provenance, results
from jax_mspac.runs.workdir import VERSIONS_FILE

RESPONSIBLE_USE = """\
Person re-identification is surveillance technology. Use this model on data whose subjects have agreed, or under the
agreement that the data came with. Do not use it to track people who do not know of it. Results on one set say little
about another: error rates differ between cameras, clothes and groups of people. Measure them on your own data before
any decision leans on a match, and keep a person in that decision."""


def text(source: Source, record: provenance.Record | None, *, name: str, license_name: str) -> str:
    """The card as Markdown, with the header that the Hugging Face Hub reads.

    Args:
      source: the model.
      record: of the run, see `runs.provenance`; None if it has none.
      name: what `jax_mspac.load` will take.
      license_name: "" if none was chosen.
    """
    config, system = source.experiment.config, methods.named(source.experiment.config.method)
    height, width = source.experiment.image_size
    header = ["library_name: jax_mspac", "pipeline_tag: image-feature-extraction"]
    header += [f"license: {license_name}"] if license_name else []
    header += ["tags:", "- person-re-identification", "- visible-infrared", "- jax"]
    data = registry.named(config.data.name).title
    parts = [
        "\n".join(["---", *header, "---"]),
        f"# {system.title}, trained on {data}",
        f"A model for visible-infrared person re-identification: {system.title} (`{config.method}` of jax_mspac), "
        f"checkpoint of step {source.step}. It embeds the image of a person, visible or infrared, cropped to the "
        f"person and resized to {height} x {width} pixels. The cosine of two embeddings says how alike they are.",
        "## Use",
        f'```python\nimport jax_mspac\n\nmodel = jax_mspac.load("{name}")\n'
        'query = model.embed("night.png", modality="infrared")  # float32 [1, D], of unit length\n'
        'gallery = model.embed(["day/1.png", "day/2.png"], modality="visible")\nsimilarity = query @ gallery.T\n```',
        "`load` takes the name on the Hub, `hf://OWNER/NAME`, or the folder of these files. No file holds code.",
        "## Training",
        *_training(record, data, config.train.steps),
        "All settings are in config.json.",
        "## Evaluation",
        *_evaluation(source),
        "## Versions",
        _versions(source.folder),
        "## Responsible use",
        RESPONSIBLE_USE,
        "## License",
        f"{license_name}." if license_name else "Those who handed this model on have not chosen a license: ask them.",
        "The agreement of the training data may say more about models that are trained on it.",
    ]
    return "\n\n".join(parts) + "\n"


def named(weights: str) -> str:
    """Weights to start from, without the path of a file of this machine."""
    return weights if weights == "none" or weights.startswith(HUB) else pathlib.PurePath(weights).name


def _training(record: provenance.Record | None, data: str, steps: int) -> list[str]:
    unknown = provenance.unknown(record)
    if record is None:
        return [unknown]
    weights = record["weights"]["from"]
    unknown = unknown.replace(weights, named(weights))
    if record["train"] is None:
        return [unknown]
    train = record["train"]
    lines = [
        f"- Data: {data}, {' and '.join(train['splits'])}: {train['images']:,} images of {train['identities']:,} "
        "identities",
        f"- Steps: {steps:,}",
        f"- Started from: {'random weights' if weights == 'none' else named(weights)}"
        + (f" (SHA-256 {record['weights']['sha256']})" if "sha256" in record["weights"] else ""),
    ]
    return ["\n".join(lines)] + ([unknown] if unknown else [])


def _evaluation(source: Source) -> list[str]:
    found = _read(source.folder / results.JSON_FILE)
    if not found or not found.get("rows"):
        return ["The run has no results."]
    said = [
        f"On the test images of {registry.named(found['data']['name']).title}, by the protocols of the table, in "
        f"percent. The row in bold was declared the primary one before training; embeddings are compared by cosine."
    ]
    if found.get("step") != source.step:
        said.append(
            f"**These numbers are of the checkpoint of step {found.get('step')}; the weights are of step "
            f"{source.step}.**"
        )
    return [*said, results.markdown(found).strip()]


def _versions(folder: pathlib.Path) -> str:
    versions = {name: value for name, value in _read(folder / VERSIONS_FILE).items() if isinstance(value, str)}
    trained = ", ".join(f"{name} {value}" for name, value in versions.items()) or "versions that are not recorded"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"Trained with {trained}. Exported on {today} by jax_mspac {jax_mspac.__version__}."


def _read(path: pathlib.Path) -> Mapping[str, Any]:
    """The JSON object of a file; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
