"""What docs/architecture.md promises about imports."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "jax_mspac"
FILES = sorted(PACKAGE.rglob("*.py"))


def imported_by(statement):
    """Top-level packages that are loaded after the statement has run in a fresh interpreter."""
    program = f"import sys\n{statement}\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def project_imports(path):
    """The jax_mspac modules that a file imports, as "package.module"."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jax_mspac"):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("jax_mspac")}
    return names


def test_everything_but_reading_data_works_without_tensorflow():
    for module in ("methods", "parallel", "evaluator", "inference", "checkpoints"):
        assert "tensorflow" not in imported_by(f"import jax_mspac.{module}"), module


def test_training_waits_for_no_library_that_it_does_not_use():
    loaded = imported_by(
        "from jax_mspac.runtime import command; command.quiet_libraries(); import jax_mspac.training.series"
    )
    assert "tensorflow" in loaded
    assert not {"keras", "matplotlib", "sklearn", "skimage", "torch"} & loaded


def test_help_and_configs_load_neither_jax_nor_tensorflow():
    assert not {"jax", "tensorflow"} & imported_by("import jax_mspac.main")
    assert not {"jax", "tensorflow"} & imported_by("import jax_mspac.config")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_the_entry_point(path):
    assert not any(name.startswith("jax_mspac.main") for name in project_imports(path))


@pytest.mark.parametrize("package", ["models", "losses", "metrics", "protocols"])
def test_leaves_know_neither_data_nor_config(package):
    allowed = ("jax_mspac.errors", "jax_mspac.modalities", "jax_mspac.kernels.convolution", f"jax_mspac.{package}")
    allowed += {"metrics": ("jax_mspac.protocols.base",), "protocols": ("jax_mspac.data.matlab",)}.get(package, ())
    for path in (PACKAGE / package).glob("*.py"):
        outside = {name for name in project_imports(path) if not name.startswith(allowed) and name != "jax_mspac"}
        assert not outside, f"{path.name} imports {sorted(outside)}"


def test_files_are_short():
    lengths = {path.name: len(path.read_text().splitlines()) for path in FILES}
    assert max(lengths.values()) <= 400, max(lengths, key=lengths.get)
