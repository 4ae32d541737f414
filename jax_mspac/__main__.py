"""The commands by name: jax-mspac train|evaluate|score|prepare|reproduce|report|convert|search|export.

Without the script: python -m jax_mspac train. Each is a module that runs by itself as well: `jax-mspac report ...` is
`python -m jax_mspac.report ...`.
"""

import runpy
import sys

from jax_mspac import __version__

# Module, flags that the name stands for, what it does.
COMMANDS = {
    "train": ("main", ["--mode=train"], "train a config, or resume its run"),
    "evaluate": ("main", ["--mode=evaluate"], "evaluate a checkpoint of a run"),
    "score": ("main", ["--mode=score"], "score features of any model under the protocols of a data set"),
    "prepare": ("prepare", [], "check a data set and convert it to the format that training reads"),
    "reproduce": ("reproduce", [], "train the rows of an ablation table of the paper's slides, or of another study"),
    "report": ("report", [], "write a page about one run, or about two side by side"),
    "search": ("search", [], "an index of embedded images: add, query, calibrate"),
    "export": ("export", [], "hand on a model: safetensors, the Hugging Face Hub, StableHLO, ONNX, torch"),
    "convert": ("convert", [], "convert a PyTorch checkpoint to a run, or back"),
}


def usage() -> str:
    """The commands, a line each."""
    lines = [f"  {name:10} {meaning}" for name, (_, _, meaning) in COMMANDS.items()]
    return "\n".join(["usage: jax-mspac COMMAND [FLAGS]", "", *lines, "", "jax-mspac COMMAND --help lists its flags."])


def main() -> None:
    """Runs the command that the first argument names."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(usage())
    elif name == "--version":
        print(f"jax-mspac {__version__}")
    elif name not in COMMANDS:
        sys.exit(f"error: there is no command {name!r}\n\n{usage()}")
    else:
        module, flags, _ = COMMANDS[name]
        sys.argv = [sys.argv[0], *flags, *rest]
        runpy.run_module(f"jax_mspac.{module}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
