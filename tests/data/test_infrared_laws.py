"""Simulated infrared: gray, repeatable, each law what it says; and a run that is tested under another law."""

import json

import numpy as np
import pytest
from helpers import sets, small_runs
from helpers.trees import draw_folder_tree

from jax_mspac.data import images
from jax_mspac.data.infrared_laws import LAWS, simulate
from jax_mspac.errors import UserError
from jax_mspac.runs.evaluate import evaluate_checkpoint
from jax_mspac.training import loop

BLACK, GRAY, LIGHT, WHITE = (0,) * 3, (64,) * 3, (153,) * 3, (255,) * 3
RED, BLUE, TEAL = (204, 0, 0), (0, 0, 204), (51, 102, 102)


def mean_of(color, law, seed=0):
    """The mean gray of a plain image, [0, 1]."""
    return simulate(np.full((60, 40, 3), color, np.uint8), seed, law).mean() / 255


@pytest.mark.parametrize("law", LAWS)
def test_simulated_infrared_is_gray_and_a_function_of_the_seed(law):
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    first, again, other = (simulate(image, seed, law) for seed in (3, 3, 4))
    assert first.dtype == np.uint8 and first.shape == image.shape
    assert (first == first[..., :1]).all()
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_first_law_forgets_color_and_keeps_brightness():
    differences = []
    for seed in range(20):
        dark, light, red, blue = (
            255 * mean_of(color, "mixed", seed) for color in ((40,) * 3, (200,) * 3, (220, 30, 30), (30, 30, 220))
        )
        assert dark < light - 20
        differences.append(red - blue)
    assert min(differences) < -20 and max(differences) > 20


def test_the_first_law_has_not_changed():
    """Its pixels at a time when it was the only one."""
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(simulate(image, 3)[0, :, 0], [167, 219, 48, 141])


@pytest.mark.parametrize(
    ("law", "color", "expected"),
    [
        # (1.5 R - 0.25 G - 0.25 B)^0.4 with R = 0.8, and with R = 0.2, G = B = 0.4.
        ("red", GRAY, (64 / 255) ** 0.4),
        ("red", RED, 1.0),
        ("red", TEAL, 0.1**0.4),
        ("red", BLUE, 0.0),
        # Bright is dark: 1 - Y, Y of red 0.299 * 0.8.
        ("inverted", BLACK, 1.0),
        ("inverted", GRAY, (191 / 255) ** 1.5),
        ("inverted", RED, (1 - 0.2392) ** 1.5),
        # Halfway between the first two knots; at the third; the last one.
        ("folded", BLACK, 0.9),
        ("folded", (76.5,) * 3, 0.1),
        ("folded", LIGHT, 0.7),
        ("folded", WHITE, 0.2),
    ],
)
def test_laws_are_their_formulas(law, color, expected):
    # Noise of 0.02 that is cut at black and white moves the mean by up to 0.008; colors are whole numbers of 255.
    assert mean_of(color, law) == pytest.approx(expected, abs=0.01)


def test_dyes_shine_under_a_lamp():
    image = np.full((101, 51, 3), BLUE, np.uint8)
    made = simulate(image, 0, "dyes")[..., 0] / 255
    luma = 0.114 * 0.8
    middle = luma + 0.8 * (1 - luma)
    assert made[45:56, 20:31].mean() == pytest.approx(middle, abs=0.02)
    assert np.mean([made[row, column] for row in (0, -1) for column in (0, -1)]) == pytest.approx(middle / 2, abs=0.05)
    assert mean_of(BLACK, "dyes") < 0.01
    # Gray keeps the order of brightness, a saturated color does not.
    assert mean_of(GRAY, "dyes") < mean_of(LIGHT, "dyes") < mean_of(BLUE, "dyes")


def build(tmp_path, root, **options):
    return sets.build("folder", source=str(root), data_dir=str(tmp_path / "tfds"), **options)


def test_another_law_is_another_set_with_the_same_people_and_visible_images(tmp_path):
    root = draw_folder_tree(tmp_path / "photos", tops=("rgb",), images=4)
    found = {}
    for law in ("mixed", "inverted"):
        builder = build(tmp_path, root, simulate_infrared=True, infrared_law=law)
        builder.download_and_prepare()
        found[law] = sets.load_split(builder, "test")
        assert builder.info.metadata["infrared_law"] == law
    one, two = found.values()
    assert one.identity_names == two.identity_names and one.paths.tolist() == two.paths.tolist()
    same = [a == b for a, b in zip(one.images, two.images, strict=True)]
    np.testing.assert_array_equal(same, one.modalities == 0)
    infrared = int(np.flatnonzero(one.modalities == 1)[0])
    pixels = [images.read_rgb(image_set.images[infrared]).astype(int) for image_set in (one, two)]
    assert np.corrcoef(pixels[0].ravel(), pixels[1].ravel())[0, 1] < -0.5


def test_impossible_laws_are_named(tmp_path):
    root = draw_folder_tree(tmp_path / "photos")
    with pytest.raises(UserError, match=r"config.data.infrared_law is 'far'; expected one of mixed, red, dyes"):
        build(tmp_path, root, simulate_infrared=True, infrared_law="far")
    with pytest.raises(UserError, match=r"infrared images are not simulated: set --config.data.simulate_infrared=True"):
        build(tmp_path, root, infrared_law="red")


def test_a_run_is_tested_under_another_law_on_people_it_does_not_know(tmp_path):
    small_runs.register()
    draw_folder_tree(tmp_path / "tree", tops=("rgb",), identities=[f"person {i}" for i in range(13)], images=4)
    changes = {"train.steps": 2, "eval.every": 0, "eval.trials": 1, "checkpoint.every": 1}
    config = small_runs.config_of(tmp_path, **changes, **{"data.simulate_infrared": True})
    own = loop.train(config, tmp_path / "run")
    assert own["data"]["own"] and any("by the law 'mixed'" in note for note in own["notes"])
    before = (tmp_path / "run" / "results.json").read_bytes()
    config.data.infrared_law = "folded"
    outcome = evaluate_checkpoint(config, tmp_path / "run")
    assert not outcome["data"]["own"] and any("by the law 'folded'" in note for note in outcome["notes"])
    assert {name: outcome["data"][name] for name in ("images", "identities")} == {
        name: own["data"][name] for name in ("images", "identities")
    }
    (folder,) = (tmp_path / "run" / "evaluations").iterdir()
    assert json.loads((folder / "results.json").read_text()) == outcome
    assert (tmp_path / "run" / "results.json").read_bytes() == before
    # People it was trained on do not become strangers because they look otherwise, not even in another folder.
    config.data.seed = 5
    with pytest.raises(UserError, match=r"was trained on \d of the \d+ test identities"):
        evaluate_checkpoint(config, tmp_path / "run")
    (tmp_path / "tree").rename(tmp_path / "moved")
    config.data.source = str(tmp_path / "moved")
    with pytest.raises(UserError, match=r"was trained on \d of the \d+ test identities"):
        evaluate_checkpoint(config, tmp_path / "run")
