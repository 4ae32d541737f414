"""Converts PyTorch checkpoints of published systems into the folder of a run, and back.

    python -m jax_mspac.convert --weights FILE --from agw --workdir DIR [--config configs/sysu.py] [--config.x=y]
    python -m jax_mspac.convert --workdir DIR --to torch --weights FILE [--checkpoint best]

The first command reads a checkpoint that the public code of a system has saved (.t, .pth, .pt, .safetensors). It writes
the folder of a run, which jax_mspac.load, --mode evaluate, jax_mspac.report and --config.model.pretrained open like any
other; --config says which data it is evaluated on. The second command writes a file that the public code loads. Files
written by torch need torch: pip install -r requirements/torch.txt.
"""

import pathlib

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from jax_mspac import config as config_lib
from jax_mspac.runtime import command


def define_flags() -> None:
    """Called by the command alone: other commands have flags of the same names."""
    flags.DEFINE_string("weights", None, "The PyTorch checkpoint: read with --from, written with --to.")
    flags.DEFINE_string("from", None, "The system whose public code wrote the file, such as agw.")
    flags.DEFINE_enum("to", None, ["torch"], "Write the run's latest checkpoint for its system's public code.")
    flags.DEFINE_string("workdir", None, "Folder of the run: written with --from, read with --to.")
    flags.DEFINE_string("checkpoint", "latest", "With --to, the checkpoint to write: latest, best or a step.")
    config_flags.DEFINE_config_file(
        "config", help_string="With --from: the config of the data. Default: SYSU-MM01, 288x144."
    )


def get_config() -> ConfigDict:
    """This file is the config where none is given."""
    return config_lib.full_size_config("sysu_mm01")


def parse_flags(argv: list[str]) -> list[str]:
    """As `command.parse_flags`; --config.x=y works without --config."""
    names = {word.lstrip("-").partition("=")[0] for word in argv if word.startswith("-")}
    if "from" in names and "config" not in names:
        argv = [argv[0], f"--config={__file__}", *argv[1:]]
    return command.parse_flags(argv)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    values = flags.FLAGS
    if not values.weights or not values.workdir or bool(values["from"].value) == bool(values.to):
        raise app.UsageError("--weights FILE, --workdir DIR and one of --from SYSTEM and --to torch are required")
    command.quiet_libraries()
    weights, workdir = (pathlib.Path(path).expanduser() for path in (values.weights, values.workdir))
    with command.command("the same command starts again"):
        from jax_mspac.runs import conversion

        if values.to:
            conversion.to_torch(workdir, values.checkpoint, weights)
            return
        config = values.config
        config_lib.split_lists(config)
        config_lib.check_types(config)
        config.method = values["from"].value
        conversion.from_torch(weights, workdir, config)


if __name__ == "__main__":
    define_flags()
    command.run(main, flags_parser=parse_flags)
