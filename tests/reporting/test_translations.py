"""What a report shows of methods that translate and of players against each other."""

import types

import numpy as np

from jax_mspac.methods.base import Game
from jax_mspac.reporting import games, records, runs, sections, translations


def test_games_show_what_was_logged_of_each_side():
    sides = {"maker": "fooling", "judge": "judging", "of another phase": "resting"}
    game = Game("Made or real", sides, ("accuracy",))
    curves = {"fooling": {1: 0.5, 3: 0.8}, "judging": {1: 0.4}, "accuracy": {1: 0.9, 3: 0.6}, "other": {1: 7.0}}
    losses, accuracies = games.figure([game], curves).axes
    shown = {line.get_label(): line.get_xydata().tolist() for line in losses.lines}
    assert shown == {"maker": [[1, 0.5], [3, 0.8]], "judge": [[1, 0.4]]}
    assert accuracies.lines[0].get_xydata().tolist() == [[1, 0.9], [3, 0.6]]
    assert accuracies.lines[1].get_ydata() == [0.5, 0.5]  # where nothing is known


def test_translations_stand_below_their_images():
    rng = np.random.default_rng(2)
    images, made, back = rng.integers(0, 256, (3, 2, 8, 4, 3)).astype(np.uint8)
    of = translations.Translations(made, back)
    axes = translations.figure(images, ["visible", "infrared"], of).axes
    shown = [ax.images[0].get_array() for ax in axes]
    for found, expected in zip(shown, [*images, *made, *back], strict=True):
        np.testing.assert_array_equal(found, expected)
    expected = np.abs(images.astype(int) - back.astype(int)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(of.error(images), expected, rtol=1e-5)


class Negatives:
    """A method that makes the negative of an image, and plays a game."""

    games = (Game("Made or real", {"maker": "fooling"}, ("accuracy",)),)

    def translate(self, variables, images, modality):
        return 255 - images


def run_of(method, curves):
    """A run of two people with an image of each modality, as far as sections read it."""
    pixels = np.random.default_rng(3).integers(0, 256, (4, 8, 4, 3)).astype(np.uint8)
    images = types.SimpleNamespace(
        identities=np.array([0, 0, 1, 1]),
        modalities=np.array([0, 1, 1, 0]),
        cameras=np.array(["1", "2", "2", "1"]),
        identity_names=["anna", "ben"],
    )
    test = types.SimpleNamespace(image_set=images, images=lambda positions: [pixels[positions]])
    kept = records.Records(curves, None, {}, {})
    fields = {"workdir": None, "config": None, "step": 1, "notes": [], "provenance": None, "trained": []}
    return runs.Run(**fields, records=kept, test=test, features=None, _method=method, _variables=None), pixels


def test_the_report_of_a_method_that_translates_shows_translations_cycles_and_games():
    run, pixels = run_of(Negatives(), {"fooling": {1: 0.5, 2: 0.6}, "accuracy": {1: 0.9, 2: 0.7}})
    made, back = run.translations(np.array([2, 0]))
    np.testing.assert_array_equal(made, 255 - pixels[[2, 0]])
    np.testing.assert_array_equal(back, pixels[[2, 0]])
    section = sections.translated(run)
    text, picture = section.blocks
    assert "differ by 0 of 255" in text.text and picture.caption == "Identities, two images each: anna, ben."
    names = [block.name for block in sections.training(run, None).blocks]
    assert names == ["curves", "games"]


def test_the_report_of_another_method_has_neither():
    run, _ = run_of(object(), {"loss": {1: 0.5, 2: 0.6}})
    assert sections.translated(run) is None
    assert [block.name for block in sections.training(run, None).blocks] == ["curves"]
