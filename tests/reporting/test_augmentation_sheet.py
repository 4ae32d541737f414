import numpy as np
import pytest
from PIL import Image

from jax_mspac.reporting import augmentation_sheet

COLUMNS = 11


@pytest.fixture(scope="module")
def sheet():
    return augmentation_sheet.augmentation_sheet(people=2, height=32, width=16, gap=1)


def test_rows_are_people_in_both_modalities_and_the_first_column_is_untouched(sheet):
    assert sheet.shape == (4 * 33 + 1, COLUMNS * 17 + 1, 3) and sheet.dtype == np.uint8
    cells = np.stack([sheet[1 + 33 * row : 33 * (row + 1), 1:17] for row in range(4)]).astype(int)
    colored = np.abs(cells - cells[..., :1]).max(axis=(1, 2, 3)) > 0
    np.testing.assert_array_equal(colored, [True, True, False, False])


def test_moderate_columns_are_gray_and_radical_ones_of_infrared_are_not(sheet):
    gray = np.abs(sheet[1:-1, 1 + 17 : 17 * 4].astype(int) - sheet[1:-1, 1 + 17 : 17 * 4, :1]).max(axis=-1)
    assert gray.max() <= 1  # rounded
    infrared = sheet[67:-1, 1 + 17 * 4 : 17 * 8].astype(int)
    assert np.mean(np.abs(infrared[..., 0] - infrared[..., 2]) > 5) > 0.1


def test_rising_curves_keep_the_order_of_brightness_and_falling_ones_turn_it_around():
    sheet = augmentation_sheet.augmentation_sheet(of="tone_curves", people=2, height=32, width=16, gap=1)
    cells = [sheet[67:99, 1 + 17 * column : 17 * (column + 1), 0].ravel().astype(int) for column in range(COLUMNS)]
    assert (np.abs(sheet[67:-1].astype(int) - sheet[67:-1, :, :1]) <= 1).all()  # infrared, rounded
    order = np.argsort(cells[0], kind="stable")
    for column, sign in ((1, 1), (2, 1), (3, -1), (4, -1)):
        assert (sign * np.diff(cells[column][order]) >= 0).all()
    assert np.ptp([np.corrcoef(cells[0], cell)[0, 1] for cell in cells[5:]]) > 0.3


def test_the_command_writes_a_small_picture(tmp_path, monkeypatch, sheet):
    file = tmp_path / "sheet.png"
    options = {"--out": str(file), "--of": "tone_curves", "--people": "2", "--seed": "3"}
    monkeypatch.setattr("sys.argv", ["augmentation_sheet", *(text for option in options.items() for text in option)])
    asked = {}
    monkeypatch.setattr(augmentation_sheet, "augmentation_sheet", lambda **given: asked.update(given) or sheet)
    augmentation_sheet.main()
    assert asked == {"of": "tone_curves", "people": 2, "seed": 3}
    with Image.open(file) as picture:
        assert picture.size == (2 * sheet.shape[1], 2 * sheet.shape[0])
