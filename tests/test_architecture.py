"""What docs/architecture.md promises about the code."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "jax_mspac"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom: a room imports rooms of lower rows only.
ROWS = (
    ("errors", "modalities"),
    ("runtime", "settings"),
    ("kernels", "protocols", "demo"),
    ("models", "losses", "classical", "data", "metrics"),
    ("methods",),
    ("evaluation",),
    ("config",),
    ("runs",),
    ("training",),
    ("reporting", "studies", "search", "export"),
    ("main", "prepare", "reproduce", "report", "convert"),
)
ROW_OF = {room: number for number, row in enumerate(ROWS) for room in row}
LIBRARIES = {"tensorflow", "tensorflow_datasets", "absl", "ml_collections"}


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Every module that a file imports, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "jax_mspac":
            # The package's own names, such as __version__, are of no room.
            yield from (f"jax_mspac.{alias.name}" for alias in node.names if not alias.name.startswith("__"))
        elif isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imported_by(statement):
    """Top-level packages that are loaded after the statement has run in a fresh interpreter."""
    program = f"import sys\n{statement}\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_every_room_is_known_and_drawn():
    rooms = {room_of(path) for path in FILES} - {"__init__", "__main__"}
    assert rooms == set(ROW_OF)
    drawn = re.findall(r'class="n">(\w+)<', (ROOT / "docs" / "images" / "rooms.svg").read_text())
    assert drawn == [room for row in reversed(ROWS) for room in row]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_lead_down(path):
    own = room_of(path)
    if own.startswith("__"):
        return
    for module in imports_of(path):
        if module.startswith("jax_mspac."):
            room = module.split(".")[1]
            assert room == own or ROW_OF[room] < ROW_OF[own], f"{path.name} imports {module}"


@pytest.mark.parametrize("room", ["models", "losses", "metrics", "protocols", "kernels"])
def test_leaves_know_neither_files_nor_flags_nor_tensorflow(room):
    for path in (PACKAGE / room).glob("*.py"):
        assert not LIBRARIES & {module.partition(".")[0] for module in imports_of(path)}, path.name


def test_tensorflow_is_imported_in_data_alone():
    for path in FILES:
        if room_of(path) != "data":
            assert (
                not {"tensorflow", "tensorflow_datasets"} & set(imports_of(path)) or "TYPE_CHECKING" in path.read_text()
            )


def test_everything_but_reading_encoded_images_works_without_tensorflow():
    for module in ("runs.inference", "training.series", "data.memory"):
        assert not {"tensorflow", "tensorflow_datasets"} & imported_by(f"import jax_mspac.{module}"), module


def test_only_commands_need_ml_collections():
    for path in FILES:
        commands = ("main", "prepare", "reproduce", "report", "convert")
        assert room_of(path) in commands or path.name == "fields.py" or "ml_collections" not in set(imports_of(path))


def test_training_waits_for_no_library_that_it_does_not_use():
    loaded = imported_by(
        "from jax_mspac.runtime import command; command.quiet_libraries(); "
        "import jax_mspac.training.series, jax_mspac.data.preparation"
    )
    assert "tensorflow" in loaded
    assert not {"keras", "matplotlib", "sklearn", "skimage", "torch"} & loaded


def test_help_loads_neither_jax_nor_tensorflow():
    for door in ("main", "prepare", "reproduce", "report", "convert", "config", "search.__main__", "export.__main__"):
        assert not {"jax", "tensorflow"} & imported_by(f"import jax_mspac.{door}"), door


def test_files_are_short_and_the_top_is_a_short_list():
    lengths = {path.name: len(path.read_text().splitlines()) for path in FILES}
    assert max(lengths.values()) <= 350, max(lengths, key=lengths.get)
    assert len(list(PACKAGE.glob("[!_]*.py"))) <= 11
