"""A model as config.json, model.safetensors and a card: what `jax_mspac.load` opens, and what the Hub holds."""

import os
import pathlib

from jax_mspac.config import default_config
from jax_mspac.errors import UserError
from jax_mspac.export import card
from jax_mspac.export.source import Source
from jax_mspac.runs import config_file, hub, provenance, weights_folder
from jax_mspac.runtime.fields import ConfigDict


def write(
    source: Source, folder: pathlib.Path, *, name: str, license_name: str = "", with_provenance: bool = False
) -> None:
    """Writes the files of a model into a folder.

    Args:
      source: the model.
      folder: where to.
      name: what `jax_mspac.load` will take, for the card.
      license_name: an identifier of the Hub, such as apache-2.0; "" if none was chosen.
      with_provenance: also hand on provenance.json, which tells by digests which images the model was trained on, and
        the names of their identities. Without it nobody can check whether a person was.

    Raises:
      UserError: `with_provenance` is set, and the run has no such record.
    """
    record = provenance.read(source.folder)
    if with_provenance:
        if record is None:
            raise UserError(f"--provenance: {source.folder} has no {provenance.FILE}")
        provenance.keep(folder, _public(record))
    config_file.save(public(source.experiment.config), folder / config_file.FILE)
    weights_folder.save(folder, source.step, source.variables)
    text = card.text(source, record, name=name, license_name=license_name)
    (folder / hub.CARD).write_text(text, encoding="utf-8")


def public(config: ConfigDict) -> ConfigDict:
    """A copy of a config without the paths of this machine, none of which touches what the model computes."""
    config = config.copy_and_resolve_references()
    defaults = default_config(config.data.name)
    for field, value in config.data.items():
        if field in ("source", "data_dir", "memory") or (isinstance(value, str) and os.sep in value):
            config.data[field] = defaults.data[field]
    config.model.pretrained = card.named(config.model.pretrained)
    return config


def _public(record: provenance.Record) -> provenance.Record:
    weights = {**record["weights"], "from": card.named(record["weights"]["from"])}
    return {**record, "command": "", "source": [], "weights": weights}
