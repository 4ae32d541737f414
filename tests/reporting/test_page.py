"""The report of a tiny run as a reader gets it: page, pictures, numbers, a real browser."""

import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.shallow import TWO_STAGES
from helpers.trees import draw_folder_tree
from PIL import Image

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.report import report
from jax_mspac.runs import config_file
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runs.evaluate import evaluate_checkpoint
from jax_mspac.runs.results import SCORES
from jax_mspac.training.loop import initial_state, train

ROOT = pathlib.Path(__file__).parents[2]
# A folder may be called so; matplotlib and HTML both have other plans for it.
HOSTILE = "<img src=x onerror=alert(1)> $\\frac{1} &amp; 王"
SECTIONS = ("results", "training", "galleries", "attention", "map", "distances", "cameras", "settings")


class Document(html.parser.HTMLParser):
    """What a page is made of: elements with their attributes, and the text of table cells."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.cells, self.text, self._open = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open = tag in ("td", "th")
        if self._open:
            self.cells.append("")

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self._open:
            self.cells[-1] += data

    def values(self, attribute):
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(workdir of a run, workdir of a baseline on the same data)."""
    tmp_path = tmp_path_factory.mktemp("report")
    identities = [HOSTILE, *(f"person {i}" for i in range(9))]
    draw_folder_tree(tmp_path / "tree", identities=identities, cameras=("left", "right"), images=1)
    (tmp_path / "test.txt").write_text("\n".join(identities[:4]))
    config = config_lib.default_config("folder")
    config.data.source = str(tmp_path / "tree")
    config.data.test_identities = str(tmp_path / "test.txt")
    config.data.data_dir = str(tmp_path / "tfds")
    config.data.height, config.data.width = 32, 16
    config.data.val_fraction = 0.3
    config.batch.identities, config.batch.visible, config.batch.infrared = 4, 1, 1
    config.model.backbone, config.model.width, config.model.parts = TWO_STAGES, 4, (2, 1)
    config.train.steps, config.train.log_every, config.checkpoint.every, config.eval.every = 2, 1, 1, 1
    config.eval.trials, config.eval.batch, config.eval.exclude_same_camera, config.eval.baselines = 2, 8, True, True
    run, baseline = tmp_path / "run", tmp_path / "baseline"
    train(config, run)
    # As if it had been trained, without the time that compiling its step takes.
    config.model.parts, config.loss.mecen.weight = (), 0.0
    baseline.mkdir()
    for name in ("metrics.jsonl", "versions.json"):
        shutil.copy(run / name, baseline)
    config_file.save(config, baseline / config_file.FILE)
    with Checkpoints(baseline / FOLDER) as checkpoints:
        checkpoints.save(initial_state(config, methods.build(config, num_identities=5)).replace(step=np.int32(2)))
    evaluate_checkpoint(config, baseline)
    return run, baseline


@pytest.fixture(scope="module")
def page(runs):
    """Path of the page of a run against its baseline."""
    return report(runs[0], against=runs[1])


@pytest.fixture
def copied(runs, tmp_path):
    """A run that a test may damage."""
    shutil.copytree(runs[0], tmp_path / "run", ignore=shutil.ignore_patterns("report", "tensorboard"))
    return tmp_path / "run"


def test_page_has_its_sections_and_its_table_of_contents_leads_to_them(page):
    document = Document(page.read_text())
    assert [a["id"] for tag, a in document.elements if tag == "section"] == list(SECTIONS)
    links = [a["href"] for tag, a in document.elements if tag == "a"]
    assert links == [f"#{anchor}" for anchor in SECTIONS]
    assert "second run" in document.text and "baseline" in document.text
    assert "missing" not in document.values("class")


def test_pictures_lie_beside_the_page_and_are_inlined(page):
    document = Document(page.read_text())
    pictures = [attributes["src"] for tag, attributes in document.elements if tag == "img"]
    files = sorted(page.parent.glob("*.png"))
    names = {file.stem for file in files}
    assert {"curves", "attention", "channel-gates", "map", "distances", "ranking-best-1", "ranking-worst-1"} <= names
    assert len(pictures) == len(files)
    for file in files:
        with Image.open(file) as image:
            assert np.ptp(np.asarray(image.convert("L"))) > 100, f"{file.name} is blank"
    assert all(attributes.get("alt") for tag, attributes in document.elements if tag == "img")


def test_table_says_what_results_json_says(runs, page):
    cells = Document(page.read_text()).cells
    for workdir, label in zip(runs, ("this run", "second run"), strict=True):
        results = json.loads((workdir / "results.json").read_text())
        # The primary metric's protocol comes first, then the others in their order.
        for feature in ("after_neck", "before_neck"):
            starts = [i for i, cell in enumerate(cells) if cell == f"{label}, {feature}"]
            rows = [row for row in results["rows"] if row["feature"] == feature]
            first = results["rows"][results["primary"]]["direction"]
            rows.sort(key=lambda row: row["direction"] != first)  # noqa: B023
            assert len(starts) == len(rows) == 2
            for start, row in zip(starts, rows, strict=True):
                expected = [f"{100 * row[s]['mean']:.2f} ± {100 * row[s]['std']:.2f}" for s in SCORES]
                assert cells[start + 1 : start + 1 + len(SCORES)] == expected
    results = json.loads((runs[0] / "results.json").read_text())
    for name, baseline in results["baselines"].items():
        start = cells.index(f"baseline: {name}")
        assert (
            cells[start + 1] == f"{100 * baseline['rank1']:.2f}" and cells[start + 5] == f"{100 * baseline['mAP']:.2f}"
        )


def test_slides_are_silent_about_other_data(page):
    text = page.read_text()
    assert "none is shown" in text and "slides: " not in text


def test_names_from_data_are_escaped(page):
    document = Document(page.read_text())
    assert HOSTILE in document.text
    assert not any(name.startswith("on") for _, attributes in document.elements for name in attributes)
    assert not any(tag == "script" for tag, _ in document.elements)


def test_page_needs_nothing_else(page):
    text = page.read_text()
    document = Document(text)
    assert not re.search(r"https?://", text)
    assert all(value.startswith("data:") for value in document.values("src"))
    assert all(value.startswith(("#", "data:")) for value in document.values("href"))
    assert "url(" not in text and "@import" not in text


def chromium(*arguments):
    """Output of a headless browser that reaches no network."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium: the page was not loaded in a browser (Debian: apt-get install chromium)")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stderr


@pytest.mark.parametrize("width", [1300, 500])
def test_browser_shows_the_page_without_an_error(page, tmp_path, width):
    profile, shot = f"--user-data-dir={tmp_path / 'profile'}", tmp_path / "shot.png"
    told = chromium(profile, f"--window-size={width},900", f"--screenshot={shot}", page.as_uri())
    assert "CONSOLE" not in told, told
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[1] == width
    assert np.ptp(pixels) > 150 and 0.01 < np.mean(pixels < 128) < 0.9


def test_browser_test_would_notice_an_error(tmp_path):
    (tmp_path / "broken.html").write_text("<!DOCTYPE html><title>x</title><script>missing()</script>")
    told = chromium(
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--screenshot={tmp_path / 's.png'}",
        f"file://{tmp_path}/broken.html",
    )
    assert "CONSOLE" in told and "missing is not defined" in told


def test_report_without_a_second_run_and_of_an_earlier_step(copied):
    text = report(copied, checkpoint="1").read_text()
    document = Document(text)
    assert "the tables are of step 2" in document.text and "second run" not in document.text
    assert "checkpoint of step 1" in document.text
    train = json.loads((copied / "provenance.json").read_text())["train"]
    assert "training has not seen" in document.text and f"{', '.join(train['names'])}" in document.text


def test_damaged_and_missing_files_are_told_in_their_sections(copied):
    (copied / "results.json").write_text('{"rows": [{"rank1": 3}]}')
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss"')
    (copied / "versions.json").unlink()
    record = json.loads((copied / "provenance.json").read_text())
    record["train"]["names"].append("person 0")
    record["test"]["digest"] = "another"
    (copied / "provenance.json").write_text(json.dumps(record))
    document = Document(report(copied).read_text())
    for told in ("results.json is missing or damaged", "1 of its lines cannot be read", "versions.json is missing"):
        assert told in document.text
    for told in ("The run was trained on 1 of the test identities", "The pictures show other test images than the run"):
        assert told in document.text
    assert "training has not seen" not in document.text


def test_missing_runs_and_checkpoints_are_errors_that_help(runs, copied, tmp_path):
    with pytest.raises(UserError, match="does not exist: is this the --workdir of a training run"):
        report(tmp_path / "nothing")
    with pytest.raises(UserError, match="no checkpoint of step 7"):
        report(runs[0], checkpoint="7")
    with pytest.raises(UserError, match="--checkpoint is 'first'; expected latest, best or a step"):
        report(runs[0], checkpoint="first")
    shutil.rmtree(copied / FOLDER)
    with pytest.raises(UserError, match="no checkpoint in"):
        report(copied)


def test_second_run_on_other_test_identities_is_refused(runs, copied, tmp_path):
    config = config_file.load(copied / config_file.FILE)
    lines = pathlib.Path(config.data.test_identities).read_text().splitlines()
    (tmp_path / "other.txt").write_text("\n".join([*lines[1:], "person 8"]))
    config.data.test_identities = str(tmp_path / "other.txt")
    config_file.save(config, copied / config_file.FILE)
    with pytest.raises(UserError, match="was tested on other images"):
        report(runs[0], against=copied)


def test_command_line_answers_without_heavy_imports():
    program = "import sys, jax_mspac.report; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"jax", "tensorflow", "matplotlib", "sklearn", "jinja2"} & set(done.stdout.split())
    done = subprocess.run(
        [sys.executable, "-m", "jax_mspac.report", "--workdir", "/nonexistent"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "/nonexistent/config.json does not exist" in done.stderr
