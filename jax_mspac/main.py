"""Trains and evaluates: python -m jax_mspac.main --config configs/demo.py [--workdir DIR] [--mode train|evaluate].

Scores features of any origin by the protocols of a data set, see `jax_mspac.score`:
python -m jax_mspac.main --config configs/sysu.py --mode score --features FILE.npz [--workdir DIR].

Every field of the config can be set on the command line, for example --config.train.steps=100. The same command again
resumes where it stopped.
"""

import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from jax_mspac import config as config_lib
from jax_mspac.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", help_string="The experiment: a file in configs/, or your own.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run. Default: runs/<name of the config file>, or runs/score-<name of the features>."
)
MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "score"], "What to do.")
FEATURES = flags.DEFINE_string("features", None, "Of --mode score: the .npz file to score, see jax_mspac/score.py.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; settings look like --config.train.steps=100")
    if CONFIG.value is None:
        raise app.UsageError("--config is required, for example --config configs/demo.py")
    if (MODE.value == "score") != (FEATURES.value is not None):
        raise app.UsageError("--mode score and --features FILE.npz need each other")
    # Libraries tell their own story at every start; errors are enough.
    logging.set_verbosity(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    features = pathlib.Path(FEATURES.value) if FEATURES.value else None
    config_file = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"]))
    name = f"score-{features.stem}" if features else config_file.stem
    try:
        run(CONFIG.value, pathlib.Path(WORKDIR.value or f"runs/{name}"), MODE.value, features=features)
    except UserError as error:
        sys.exit(f"error: {error}")


def run(config: ConfigDict, workdir: pathlib.Path, mode: str, *, features: pathlib.Path | None = None) -> None:
    """Validates the config and does what `mode` says; `features` is what "score" scores."""
    config_lib.validate(config)
    if mode == "score":
        from jax_mspac.score import score

        score(config, features, workdir)
        return
    # JAX and TensorFlow take seconds to import: --help and a wrong flag answer without them.
    import jax

    if config.train.compilation_cache:
        _cache_compilations(jax)
    if mode == "train":
        from jax_mspac.train import train

        train(config, workdir)
    else:
        from jax_mspac.evaluate import evaluate_checkpoint

        evaluate_checkpoint(config, workdir)


def _cache_compilations(jax) -> None:
    import jaxlib

    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    # Programs of another jaxlib are never reused; a folder each keeps them easy to delete.
    jax.config.update("jax_compilation_cache_dir", str(cache / "jax_mspac" / f"xla-{jaxlib.__version__}"))


def parse_flags(argv: list[str]) -> list[str]:
    """Flags and config overrides; a mistake in them ends with a line, not with the stack trace of a library."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        kind = "there is no such setting" if isinstance(error, AttributeError | KeyError) else "a setting is wrong"
        sys.exit(f"error: {kind}: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
