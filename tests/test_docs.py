"""What the documentation says can be done: links lead somewhere, commands parse, examples run."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import pages, small_runs
from helpers.commands import run as run_command
from helpers.trees import draw_person

from jax_mspac.training import loop

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# What a reader adds by following a page.
OWN = ("runs/proxy", "--config.method=game")


def named(path):
    return str(path.relative_to(ROOT))


def anchors(text):
    """GitHub's names of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands():
    """Every command of the project in a block of the pages, one line each, with the page."""
    for path in PAGES:
        for block in re.findall(r"^ *```(?:bash|sh)\n(.*?)^ *```", path.read_text(), re.M | re.S):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                if found := re.search(r"(?<!/)python -m (jax_mspac\.\w+) ([^#&|]*)", line.partition(" # ")[0]):
                    yield path, found[1], found[2].split()


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_lines_are_short(path):
    assert not [line for line in path.read_text().splitlines() if len(line) > 120]


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http", "mailto")):
            continue
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text()), target


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_flags_and_fields_of_commands_exist(path):
    """Nothing is run: the flags are parsed, the config is loaded, and its fields take the values."""
    for page, module, words in commands():
        if page != path or any(own in word for own in OWN for word in words):
            continue
        # Words that stand for something of the reader's.
        words = [{"TABLE": "readings", "i": "0"}.get(w.rpartition("=")[2], w) if "=" not in w else w for w in words]
        words = [re.sub("=(SEED|WEIGHT|i)$", "=0", w.strip("'\"")) for w in words if w != "..."]
        done = run_command(module, *words, only_parse=True)
        assert done.returncode == 0, f"{module} {words}: {done.stdout[-500:]} {done.stderr[-500:]}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder with a trained run and some images, as the pages have them."""
    folder = tmp_path_factory.mktemp("reader")
    small_runs.register()
    small_runs.draw(folder)
    loop.train(small_runs.config_of(folder), folder / "runs" / "demo")
    for name in ("night/1.png", "night/2.png", "day/1.jpg", "day/2.jpg", "day/3.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        draw_person(1, 1, 0, infrared=name.startswith("night")).save(folder / name)
    return folder


def examples(page, heading, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    for code in pages.blocks_of(os.path.relpath(ROOT / page, pages.DOCS), heading):
        exec(code, names)
    return names


def test_the_examples_in_python_run(reader, monkeypatch):
    names = examples("README.md", "In Python", reader, monkeypatch)
    assert names["similarity"].shape == (2, 3) and names["best"].shape == (2,)
    names = examples("docs/checkpoints.md", "Embed images", reader, monkeypatch)
    np.testing.assert_allclose(np.linalg.norm(names["features"], axis=1), 1, rtol=1e-5)


def test_features_of_the_page_are_scored(tmp_path, monkeypatch):
    names = {}
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "score.md").read_text(), re.M | re.S):
        exec(code, names)
    given = [sys.executable, "-m", "jax_mspac", "score", "--config", "folder", "--features", "features.npz"]
    subprocess.run(given, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    assert f"{100 * names['scores'].mAP:.2f}" in (tmp_path / "runs" / "score-features" / "results.md").read_text()


@pytest.mark.parametrize("name, smaller", [("demo", "steps, people = 4, 12"), ("protocols", "people = 12")])
def test_notebooks_run(name, smaller, tmp_path):
    """Cell by cell, a small size after the cell of the parameters."""
    cells = json.loads((ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    code = []
    for cell in cells:
        if cell["cell_type"] == "code":
            code.append("".join(cell["source"]))
            if "parameters" in cell["metadata"].get("tags", ()):
                code.append(f"{smaller}\nworkdir = {str(tmp_path / 'run')!r}\nworkdir = pathlib.Path(workdir)")
    code.insert(1, f"import os; os.environ['TFDS_DATA_DIR'] = {str(tmp_path)!r}")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=ROOT / "docs" / "notebooks",
        env={**os.environ, "MPLBACKEND": "agg", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert {"demo": "hog", "protocols": "drawn queries"}[name] in done.stdout
