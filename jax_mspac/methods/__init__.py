"""The systems that can be trained, by name."""

from collections.abc import Collection

from jax_mspac.errors import UserError
from jax_mspac.methods import (
    agw,
    aligngan,
    bdtr,
    caj,
    caj_plus,
    cmgan,
    d2rl,
    deen,
    ebdtr,
    handcrafted,
    hetero_center,
    hetero_center_triplet,
    mfen,
    mpanet,
    mspac,
    msr,
    one_stream,
    pmt,
    rle,
    tone,
    tone_hcml,
    two_stream,
    zero_padding,
)
from jax_mspac.methods.base import Method, System
from jax_mspac.runtime.fields import ConfigDict

METHODS: dict[str, System] = {
    **handcrafted.SYSTEMS,
    "tone_hcml": tone_hcml.SYSTEM,
    "tone": tone.SYSTEM,
    "one_stream": one_stream.SYSTEM,
    "two_stream": two_stream.SYSTEM,
    "zero_padding": zero_padding.SYSTEM,
    "bdtr": bdtr.SYSTEM,
    "cmgan": cmgan.SYSTEM,
    "d2rl": d2rl.SYSTEM,
    "ebdtr": ebdtr.SYSTEM,
    "msr": msr.SYSTEM,
    "aligngan": aligngan.SYSTEM,
    "hetero_center": hetero_center.SYSTEM,
    "hetero_center_triplet": hetero_center_triplet.SYSTEM,
    "agw": agw.SYSTEM,
    "caj": caj.SYSTEM,
    "caj_plus": caj_plus.SYSTEM,
    "mpanet": mpanet.SYSTEM,
    "rle": rle.SYSTEM,
    "deen": deen.SYSTEM,
    "pmt": pmt.SYSTEM,
    "mfen": mfen.SYSTEM,
    "mspac": mspac.SYSTEM,
}


def configured(config: ConfigDict, *, chosen: Collection[str] = ()) -> ConfigDict:
    """A copy of a config with the settings of the system that `config.method` names.

    Fields that are `chosen`, such as "loss.mecen.weight", stay as they are: what the user set by hand.

    Raises:
      UserError: there is no such method.
    """
    system = named(config.method)
    config = config.copy_and_resolve_references()
    settings = dict(system.settings)
    if system.images:
        batch, (visible, infrared) = config.batch, system.images
        identities = batch.identities * (batch.visible + batch.infrared) // (visible + infrared)
        settings |= {
            "batch.identities": max(identities, 2),
            "batch.visible": visible,
            "batch.infrared": infrared,
        }
    if config.recipe == "own":
        settings |= system.recipe
    config.update_from_flattened_dict({field: value for field, value in settings.items() if field not in chosen})
    return config


def sections() -> dict[str, type]:
    """The sections that systems add to the config: name -> dataclass of settings."""
    return {name: component for system in METHODS.values() for name, component in system.sections.items()}


def build(config: ConfigDict, *, num_identities: int) -> Method:
    """The method that `config.method` names. Its embedding does not depend on the number of training identities.

    Raises:
      UserError: there is no such method; or a SettingsError lists the settings that are out of their ranges or do not
        fit together.
    """
    return named(config.method).build(config, num_identities=num_identities)


def named(name: str) -> System:
    """The system of a name.

    Raises:
      UserError: there is none.
    """
    if name not in METHODS:
        raise UserError(f"config.method is {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]
