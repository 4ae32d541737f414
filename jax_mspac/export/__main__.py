"""Hands on a model: python -m jax_mspac.export --model WORKDIR --to FORM [--output DIR_OR_FILE] [--checkpoint best].

--to safetensors  a folder that jax_mspac.load opens: config.json, model.safetensors and a card
--to hub          the same as a repository of the Hugging Face Hub: --repo OWNER/NAME [--private]
--to stablehlo    one program for CPUs, NVIDIA GPUs and TPUs, run by JAX alone
--to onnx         a graph for each modality (needs further packages, see docs/export.md)
--to torch        a file for the public PyTorch code of the system, as python -m jax_mspac.convert --to torch
"""

import pathlib
import re
import tempfile

from absl import app, flags

from jax_mspac.errors import UserError
from jax_mspac.runtime import command, disk

FORMS = ("hub", "safetensors", "stablehlo", "onnx", "torch")
# Flag -> the forms that have it, where not all do.
_ONLY = {
    "output": ("safetensors", "stablehlo", "onnx", "torch"),
    "repo": ("hub",),
    "private": ("hub",),
    "license": ("hub", "safetensors"),
    "provenance": ("hub", "safetensors"),
}


def define_flags(values: flags.FlagValues) -> None:
    """Called by the command alone: other commands have flags of the same names."""
    flags.DEFINE_string(
        "model", None, "Folder of a run, or of exported safetensors, or hf://OWNER/NAME.", flag_values=values
    )
    flags.DEFINE_enum("to", None, FORMS, "The form, see above.", flag_values=values)
    flags.DEFINE_string(
        "output", None, "Folder, or file of torch, to write. Default: export/FORM in the run's.", flag_values=values
    )
    flags.DEFINE_string("checkpoint", "latest", "Of the run: latest, best or a step.", flag_values=values)
    flags.DEFINE_bool("overwrite", False, "Replace the files of an earlier export.", flag_values=values)
    flags.DEFINE_string("repo", None, "Of --to hub: OWNER/NAME.", flag_values=values)
    flags.DEFINE_bool("private", False, "Of --to hub: make a new repository private.", flag_values=values)
    flags.DEFINE_string(
        "license", None, "Of the card: an identifier of the Hub, such as apache-2.0 or other.", flag_values=values
    )
    flags.DEFINE_bool(
        "provenance",
        False,
        "Hand on digests of the training images and the names of their identities, too.",
        flag_values=values,
    )


def main(argv: list[str]) -> None:
    run(argv, flags.FLAGS)


def run(argv: list[str], values: flags.FlagValues) -> None:
    """Does what a command line says: argv is the name of the program, and what else is no flag."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    if not values.model or not values.to:
        raise app.UsageError("--model and --to are required, for example --model runs/demo --to safetensors")
    if strange := [flag for flag, forms in _ONLY.items() if values[flag].present and values.to not in forms]:
        raise app.UsageError(f"--{strange[0]} is no flag of --to {values.to}")
    if values.to == "hub" and not values.repo:
        raise app.UsageError("--repo OWNER/NAME is required by --to hub")
    command.quiet_libraries()
    with command.command("the same command starts again"):
        if values.license is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", values.license):
            raise UserError(f"--license is {values.license!r}; expected an identifier of the Hub, such as apache-2.0")
        if values.to == "hub":
            _to_hub(values)
        else:
            output = _output(values)
            with disk.explained({output: "--output"}):
                _to_files(values, output)


def _output(values: flags.FlagValues) -> pathlib.Path:
    if values.output:
        return pathlib.Path(values.output).expanduser()
    if values.model.startswith("hf://"):
        raise UserError("--output is required where --model is one of the Hub")
    return pathlib.Path(values.model).expanduser() / "export" / ("model.t" if values.to == "torch" else values.to)


def _to_files(values: flags.FlagValues, output: pathlib.Path) -> None:
    # JAX takes a second to import: --help and a wrong flag answer without it.
    from jax_mspac.export import outputs

    outputs.check_free(output, overwrite=values.overwrite)
    if values.to == "torch":
        from jax_mspac.runs import conversion, inference

        conversion.to_torch(inference.opened(values.model).folder, values.checkpoint, output, flag="--output")
        return
    from jax_mspac.export.source import Source

    source = Source.opened(values.model, values.checkpoint)
    with outputs.folder(output, overwrite=values.overwrite) as folder:
        if values.to == "stablehlo":
            from jax_mspac.export import stablehlo

            stablehlo.write(source, folder)
        elif values.to == "onnx":
            from jax_mspac.export import onnx

            onnx.write(source, folder)
        else:
            from jax_mspac.export import weights

            license_name = values.license or ""
            weights.write(source, folder, name="FOLDER", license_name=license_name, with_provenance=values.provenance)
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    print(f"Written to {output}: the model of step {source.step}", flush=True)
    for name, size in files.items():
        print(f"  {name} ({size:,} bytes)", flush=True)


def _to_hub(values: flags.FlagValues) -> None:
    from jax_mspac.export import upload, weights
    from jax_mspac.export.source import Source
    from jax_mspac.models.weight_files import HUB

    upload.check(values.repo, overwrite=values.overwrite)
    source = Source.opened(values.model, values.checkpoint)
    with tempfile.TemporaryDirectory() as place, disk.explained({place: "folder for temporary files by TMPDIR"}):
        folder, name = pathlib.Path(place), HUB + values.repo
        license_name = values.license or ""
        weights.write(source, folder, name=name, license_name=license_name, with_provenance=values.provenance)
        address = upload.upload(folder, values.repo, private=values.private)
    print(f"The model of step {source.step} is on the Hub: {address}", flush=True)
    print(f'  jax_mspac.load("{name}")', flush=True)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    command.run(main, flags_parser=command.parse_flags)
