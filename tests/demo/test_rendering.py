import dataclasses

import numpy as np
import pytest
from PIL import Image

from jax_mspac.demo import painting, pose
from jax_mspac.demo.appearance import PATTERNS, Bag, Material, sample_person
from jax_mspac.demo.cameras import CAMERAS, blurred
from jax_mspac.demo.contact_sheet import contact_sheet, main
from jax_mspac.demo.rendering import image_rng, render
from jax_mspac.modalities import INFRARED, VISIBLE

VISIBLE_CAMERAS = [camera for camera in CAMERAS if camera.modality == VISIBLE]
INFRARED_CAMERAS = [camera for camera in CAMERAS if camera.modality == INFRARED]
WHITE = painting.Paint(np.ones(1, np.float32), np.zeros(1, np.float32))


def shoot(person, camera, *, seed=0, identity=0, index=0, height=96, width=48):
    rng = image_rng(seed, identity, camera.number, index)
    return render(person, camera, rng, height=height, width=width)


def with_materials(part, change):
    """The same person (or part of one) with every material replaced by `change(material)`."""
    if isinstance(part, Material):
        return change(part)
    if not dataclasses.is_dataclass(part):
        return part
    values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return type(part)(**{name: with_materials(value, change) for name, value in values.items()})


def recolored(material):
    return dataclasses.replace(
        material, color=tuple(1.0 - c for c in material.color), accent=tuple(0.5 * c for c in material.accent)
    )


def rereflecting(material):
    return dataclasses.replace(material, reflectance=0.9 - material.reflectance, accent_reflectance=0.2)


def test_cameras_are_three_visible_and_two_infrared():
    assert [(camera.number, camera.modality) for camera in CAMERAS] == [
        (1, VISIBLE),
        (2, VISIBLE),
        (3, VISIBLE),
        (4, INFRARED),
        (5, INFRARED),
    ]
    for camera in CAMERAS:
        assert sum(camera.headings) == pytest.approx(1.0)


@pytest.mark.parametrize("height, width", [(96, 48), (128, 64), (288, 144), (33, 17)])
@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: f"camera{camera.number}")
def test_a_picture_has_the_requested_size_and_infrared_is_gray(camera, height, width):
    picture = shoot(sample_person(0, 3), camera, identity=3, height=height, width=width)
    assert picture.shape == (height, width, 3) and picture.dtype == np.uint8
    is_gray = np.array_equal(picture[..., 0], picture[..., 1]) and np.array_equal(picture[..., 0], picture[..., 2])
    assert is_gray == (camera.modality == INFRARED)
    assert picture.std() > 10.0


@pytest.mark.parametrize("camera", CAMERAS[::3], ids=lambda camera: f"camera{camera.number}")
def test_pictures_are_a_function_of_their_seeds(camera):
    person = sample_person(5, 7)
    assert person == sample_person(5, 7)
    picture = shoot(person, camera, seed=5, identity=7, index=1)
    assert np.array_equal(picture, shoot(person, camera, seed=5, identity=7, index=1))
    for other in ({"seed": 6}, {"identity": 8}, {"index": 2}):
        assert not np.array_equal(picture, shoot(person, camera, **{"seed": 5, "identity": 7, "index": 1} | other))


def test_drawing_leaves_numpys_global_random_state_alone():
    before = np.random.get_state()[1].copy()
    shoot(sample_person(0, 0), CAMERAS[0])
    assert np.array_equal(before, np.random.get_state()[1])


def test_persons_differ_between_identities_and_seeds():
    persons = [sample_person(seed, identity) for seed in range(3) for identity in range(20)]
    assert len(set(persons)) == len(persons)


def test_infrared_ignores_color_and_visible_ignores_reflectance():
    for identity in range(12):
        person = sample_person(1, identity)
        other_colors, other_reflectances = with_materials(person, recolored), with_materials(person, rereflecting)
        for camera in CAMERAS:
            picture = shoot(person, camera, identity=identity)
            same_color = np.array_equal(picture, shoot(other_colors, camera, identity=identity))
            same_reflectance = np.array_equal(picture, shoot(other_reflectances, camera, identity=identity))
            assert (same_color, same_reflectance) == ((True, False) if camera in INFRARED_CAMERAS else (False, True))


def test_reflectance_is_independent_of_brightness_over_the_population():
    tops = [sample_person(0, identity).top.material for identity in range(400)]
    correlation = np.corrcoef([sum(top.color) for top in tops], [top.reflectance for top in tops])[0, 1]
    assert abs(correlation) < 0.15  # three standard errors


def test_a_backpack_shows_from_behind_more_than_from_the_front():
    person = sample_person(0, 0)
    materials = dataclasses.replace(person.bag.material, color=(1.0, 0.0, 0.0), pattern="solid")
    with_bag = dataclasses.replace(person, bag=Bag("backpack", 0.16, 1, materials))
    without = dataclasses.replace(person, bag=Bag("none", 0.16, 1, materials))
    changed = {}
    for name, headings in {"front": (1.0, 0.0, 0.0, 0.0), "back": (0.0, 0.0, 1.0, 0.0)}.items():
        camera = dataclasses.replace(CAMERAS[0], headings=headings)
        pairs = [(shoot(with_bag, camera, index=i), shoot(without, camera, index=i)) for i in range(8)]
        changed[name] = sum(int((np.abs(a.astype(int) - b).max(-1) > 20).sum()) for a, b in pairs)
    assert changed["back"] > 2 * changed["front"] > 0


def test_the_same_picture_at_three_times_the_size_shows_the_same():
    for camera in CAMERAS:
        quiet = dataclasses.replace(camera, noise=0.0)
        small = shoot(sample_person(0, 1), quiet, identity=1).astype(float)
        large = shoot(sample_person(0, 1), quiet, identity=1, height=288, width=144).astype(float)
        pooled = large.reshape(96, 3, 48, 3, 3).mean((1, 3))
        assert np.corrcoef(small.ravel(), pooled.ravel())[0, 1] > 0.95


def test_bones_keep_their_lengths_in_every_pose():
    body = sample_person(0, 0).body
    rng = np.random.default_rng(0)
    bones = [("hip", "knee"), ("knee", "ankle"), ("ankle", "toe")]
    lengths = []
    for _ in range(20):
        joints = pose.skeleton(body, pose.sample_pose(rng, yaw=0.0))
        lengths.append([np.linalg.norm(joints[f"{a}{s}"] - joints[f"{b}{s}"]) for a, b in bones for s in ("+1", "-1")])
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], np.shape(lengths)), rtol=1e-12)


@pytest.mark.parametrize(
    "draw, area",
    [
        (lambda p: painting.capsule(p, np.array([15.3, 12.0]), np.array([40.0, 33.7]), (6.0, 6.0), WHITE), None),
        (lambda p: painting.ellipse(p, np.array([30.2, 25.1]), (14.0, 9.0), WHITE), np.pi * 14.0 * 9.0),
        (
            lambda p: painting.strip(
                p, np.array([30.0, 8.2]), np.array([30.0, 40.2]), ((0, 5.0), (0.5, 10.0), (1, 7.0)), WHITE
            ),
            32.0 * (0.5 * (10.0 + 20.0) + 0.5 * (20.0 + 14.0)) / 2.0,
        ),
    ],
    ids=["capsule", "ellipse", "strip"],
)
def test_shapes_cover_their_area(draw, area):
    if area is None:
        area = 12.0 * np.hypot(24.7, 21.7) + np.pi * 36.0
    pixels = np.zeros((50, 60, 1), np.float32)
    draw(pixels)
    assert pixels.min() == 0.0 and pixels.max() == 1.0
    assert pixels.sum() == pytest.approx(area, rel=0.015)


def test_the_bounding_box_cuts_nothing_off():
    center, radii = np.array([9.4, 7.7]), (5.0, 2.5)
    small, large = np.zeros((20, 20, 1), np.float32), np.zeros((40, 40, 1), np.float32)
    for pixels, offset in ((small, 0.0), (large, 10.0)):
        painting.capsule(pixels, center + offset, center + offset + [7.0, 9.0], radii, WHITE)
    np.testing.assert_allclose(small, large[10:30, 10:30], atol=1e-5)
    before = small.copy()
    painting.ellipse(small, np.array([-30.0, 5.0]), (4.0, 4.0), WHITE)
    assert np.array_equal(before, small)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_mix_the_two_tones_and_turn_with_the_body(pattern):
    def cloth(yaw):
        paint = dataclasses.replace(WHITE, pattern=pattern, period=8.0, yaw=yaw)
        pixels = np.zeros((64, 64, 1), np.float32)
        painting.strip(pixels, np.array([32.0, -4.0]), np.array([32.0, 68.0]), ((0, 40.0), (1, 40.0)), paint)
        return pixels[..., 0]

    front, turned = cloth(0.0), cloth(2.5)
    assert 0.0 <= front.min() and front.max() <= 1.0
    if pattern == "solid":
        assert front.min() == 1.0
        return
    assert front.min() < 0.1 and front.max() > 0.9
    assert np.array_equal(front, turned) == (pattern in ("horizontal", "blocks"))
    if pattern == "horizontal":
        assert (front == front[:, :1]).all() and np.allclose(front[:-8], front[8:], atol=1e-5)
    if pattern == "vertical":
        assert np.allclose(front, front[:1]) and np.allclose(front[:, :-8], front[:, 8:], atol=1e-5)
    if pattern == "logo":
        assert turned.min() == 1.0  # none on the back


def test_an_unknown_pattern_is_an_error():
    with pytest.raises(ValueError, match="tartan"):
        paint = dataclasses.replace(WHITE, pattern="tartan")
        painting.ellipse(np.zeros((8, 8, 1), np.float32), np.array([4.0, 4.0]), (3.0, 3.0), paint)


def test_blur_spreads_by_its_standard_deviation_and_keeps_the_mean():
    impulse = np.zeros((41, 41, 1), np.float32)
    impulse[20, 20] = 1.0
    spread = blurred(impulse, 3.0)[..., 0]
    offset = np.arange(41) - 20.0
    assert spread.sum() == pytest.approx(1.0, abs=1e-5)
    assert (spread.sum(1) * offset**2).sum() == pytest.approx(9.0, rel=0.1)
    np.testing.assert_allclose(spread, spread.T, atol=1e-7)
    np.testing.assert_allclose(blurred(np.full((9, 5, 3), 0.3, np.float32), 2.0), 0.3, atol=1e-6)


def test_the_contact_sheet_shows_what_the_data_set_holds():
    sheet = contact_sheet(seed=2, identities=(4, 9), images_per_camera=2, height=32, width=16, gap=1)
    assert sheet.shape == (2 * 33 + 1, 10 * 17 + 1, 3) and sheet.dtype == np.uint8
    cell = sheet[34:66, 1 + 7 * 17 : 17 + 7 * 17]
    assert np.array_equal(
        cell, shoot(sample_person(2, 9), CAMERAS[3], seed=2, identity=9, index=1, height=32, width=16)
    )


def test_the_command_writes_a_small_picture(tmp_path, monkeypatch):
    file = tmp_path / "sheet.png"
    monkeypatch.setattr("sys.argv", ["contact_sheet", "--out", str(file)])
    main()
    with Image.open(file) as picture:
        assert picture.size == (2 * (10 * 50 + 2), 2 * (8 * 98 + 2))
    assert file.stat().st_size < 400_000
