"""Detectors: networks whose output is known, in each layout; suppression against a plain second implementation."""

import numpy as np
import pytest
from helpers import films

from jax_mspac.demo import rendering
from jax_mspac.demo.appearance import sample_person
from jax_mspac.demo.cameras import CAMERAS
from jax_mspac.errors import UserError
from jax_mspac.search import detection

# Corners in the network's input of 96 x 160, a score, and a class; the second is the first once more.
TRUTH = [
    ((10, 20, 34, 68), 0.9, 0),
    ((11, 20, 35, 68), 0.8, 0),
    ((100, 30, 128, 86), 0.6, 0),
    ((50, 50, 60, 60), 0.9, 1),
]
TRUTH.append(((70, 10, 90, 50), 0.1, 0))  # below the least score


def rows(layout, classes=2):
    """The truth as a network has it; scores of all classes but one are 0.01."""
    found = []
    for (left, top, right, bottom), score, kind in TRUTH:
        center = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        scores = [score if number == kind else 0.01 for number in range(classes)]
        if layout == "yolov5":
            found.append([*center, 0.5, *(2 * value for value in scores)])  # a product
        elif layout == "yolov8":
            found.append([*center, *scores])
        else:
            found.append([left, top, right, bottom, score, kind])
    return np.array(found, np.float32)


def padded(layout, classes=2):
    """As many rows as a real network has: more than columns."""
    own = rows(layout, classes)
    whole = np.zeros((32, own.shape[1]), np.float32)
    whole[: len(own)] = own
    return (whole.T if layout == "yolov8" else whole)[None]


def found_by(detector, pixels):
    return [(box.x, box.y, box.x + box.w, box.y + box.h, pytest.approx(box.score)) for box in detector(pixels, 5)]


@pytest.mark.parametrize(
    "layout, classes", [("yolov5", 2), ("yolov5", 80), ("yolov8", 2), ("yolov8", 9), ("yolov10", 2)]
)
def test_every_documented_layout_is_told_by_its_shape(tmp_path, layout, classes):
    output = padded(layout, classes)
    if layout == "yolov5" and classes == 80:  # 85 columns, and more rows than that
        output = np.concatenate([output, np.zeros((1, 100, 85), np.float32)], axis=1)
    detector = detection.load(films.save_detector(tmp_path / "people.onnx", output))
    expected = [(10, 20, 34, 68, 0.9), (100, 30, 128, 86, 0.6)]
    if layout == "yolov10":  # the network itself leaves out what is found twice
        expected.insert(1, (11, 20, 35, 68, 0.8))
    pixels = np.zeros((96, 160, 3), np.uint8)
    assert found_by(detector, pixels) == expected
    assert {box.frame for box in detector(pixels, 5)} == {5}


def test_boxes_are_those_of_the_frame_that_was_scaled_into_the_middle(tmp_path):
    # 240 x 320 pixels fit 96 x 160 at 0.4: 96 x 128, with 16 columns of gray at each side.
    detector = detection.load(films.save_detector(tmp_path / "people.onnx", padded("yolov8")))
    pixels = np.zeros((240, 320, 3), np.uint8)
    first, second = found_by(detector, pixels)
    assert first[:4] == (0, 50, 45, 170)  # (10 - 16) / 0.4 is outside; (34 - 16) / 0.4, 20 / 0.4, 68 / 0.4
    assert second[:4] == (210, 75, 280, 215)


def test_letterboxing_keeps_the_form_and_fills_with_gray():
    pixels = np.full((20, 40, 3), 200, np.uint8)
    image, scale, corner = detection.letterboxed(pixels, 64, 64)
    assert scale == 1.6 and corner.tolist() == [0, 16]
    assert (image[16:48] == 200).all() and (image[:16] == 114).all() and (image[48:] == 114).all()


def test_a_network_of_any_size_sees_640_pixels_in_rgb(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    # A box whose score is the red at a place of the input, and whose sides are the shape of the input.
    nodes = [
        helper.make_node("Shape", ["images"], ["shape"], start=2),
        helper.make_node("Cast", ["shape"], ["sides"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["images", "starts", "ends"], ["red4"]),
        helper.make_node("Reshape", ["red4", "one"], ["red"]),
        helper.make_node("Concat", ["zeros", "sides", "red", "class"], ["row"], axis=0),
        helper.make_node("Reshape", ["row", "rows"], ["output0"]),
    ]
    constants = {
        "starts": np.array([0, 0, 320, 320]), "ends": np.array([1, 1, 321, 321]), "one": np.array([1]),
        "rows": np.array([1, 1, 6]), "zeros": np.zeros(2, np.float32), "class": np.zeros(1, np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 1, 6])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "any.onnx"
    )
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 204, 51
    assert found_by(detection.load(tmp_path / "any.onnx"), pixels) == [(0, 0, 64, 64, 0.8)]


def test_files_tell_which_class_is_a_person(tmp_path):
    output, pixels = padded("yolov8"), np.zeros((96, 160, 3), np.uint8)
    for names in ("{0: 'car', 1: 'person'}", "['car', 'person']"):
        named = detection.load(films.save_detector(tmp_path / "named.onnx", output, names=names))
        assert found_by(named, pixels) == [(50, 50, 60, 60, 0.9)]
    with pytest.raises(UserError, match="none of its 2 classes is 'person': car, bus"):
        detection.load(films.save_detector(tmp_path / "cars.onnx", output, names="{0: 'car', 1: 'bus'}"))


def test_a_yolov5_of_one_class_has_to_be_named(tmp_path):
    file = films.save_detector(tmp_path / "one.onnx", padded("yolov5", 1))
    pixels = np.zeros((96, 160, 3), np.uint8)
    # All its rows are of the only class, hence the one that another detector calls 1.
    named = found_by(detection.load(file, layout="yolov5", min_score=0.5), pixels)
    assert [box[:4] for box in named] == [(10, 20, 34, 68), (100, 30, 128, 86)]


@pytest.mark.parametrize(
    "output, message",
    [
        (np.zeros((1, 8)), r"outputs: output0 \[1, 8\].*an output is \[1, 8\]; expected \[1, N, 5"),
        (np.zeros((1, 3, 8, 8)), r"an output is \[1, 3, 8, 8\]"),
        (np.zeros((2, 30, 6)), r"an output is \[2, 30, 6\]"),
        (np.zeros((1, 4, 30)), r"an output is \[1, 4, 30\], which is not yolov8"),
        (np.zeros((1, 30, 5)), r"an output is \[1, 30, 5\], which is not yolov5"),
    ],
)
def test_an_unknown_output_is_named_as_it_was_found(tmp_path, output, message):
    detector = detection.load(films.save_detector(tmp_path / "odd.onnx", output))
    with pytest.raises(UserError, match=message):
        detector(np.zeros((96, 160, 3), np.uint8), 0)


def test_what_is_no_detector_is_named(tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    for name, options, message in (
        ("dpm", {}, "detector 'dpm': expected hog, or an .onnx file"),
        ("hog", {"layout": "yolov5"}, "hog has no layout"),
        (tmp_path / "none.onnx", {}, "none.onnx: No such file"),
        (tmp_path / "text.onnx", {}, "text.onnx: cannot be read as a network"),
        ("hog", {"layout": "yolov3"}, "a layout is 'yolov3'; expected one of"),
        (films.save_detector(tmp_path / "two.onnx", padded("yolov8"), shape=[2, 3, 96, 160]), {}, r"\[2, 3, 96, 160\]"),
        (
            films.save_detector(tmp_path / "gray.onnx", padded("yolov8"), shape=[1, 1, 96, 160]),
            {},
            "expected one image",
        ),
        (films.save_detector(tmp_path / "flat.onnx", padded("yolov8"), shape=[96, 160]), {}, "expected one image"),
    ):
        with pytest.raises(UserError, match=message):
            detection.load(name, **options)


def test_no_people_are_no_boxes(tmp_path):
    pixels = np.zeros((96, 160, 3), np.uint8)
    for number, output in enumerate((np.zeros((1, 0, 6)), np.zeros((1, 30, 6)), np.zeros((1, 6, 30)))):
        assert detection.load(films.save_detector(tmp_path / f"{number}.onnx", output))(pixels, 0) == []


def plain_suppression(corners, scores, overlap):
    """The best box first, without all that overlap it; then the best of the rest."""
    left, kept = list(np.argsort(-scores, kind="stable")), []
    while left:
        best = left.pop(0)
        kept.append(best)
        others = []
        for other in left:
            width = min(corners[best][2], corners[other][2]) - max(corners[best][0], corners[other][0])
            height = min(corners[best][3], corners[other][3]) - max(corners[best][1], corners[other][1])
            shared = max(width, 0) * max(height, 0)
            areas = [(corners[i][2] - corners[i][0]) * (corners[i][3] - corners[i][1]) for i in (best, other)]
            if shared / (sum(areas) - shared) <= overlap:
                others.append(other)
        left = others
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_that_of_a_plain_implementation(seed):
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, 60, (80, 2))
    corners = np.concatenate([starts, starts + rng.uniform(5, 40, (80, 2))], axis=1)
    scores = rng.permutation(80) / 40 - 0.6  # all different, some below 0 as those of "hog"
    counted = scores >= -0.25
    expected = plain_suppression(corners[counted], scores[counted], 0.45)
    boxes, found = detection.suppressed((corners, scores), -0.25)
    assert 5 < len(expected) < counted.sum() - 5
    np.testing.assert_allclose(boxes, corners[counted][expected])
    np.testing.assert_allclose(found, scores[counted][expected])


@pytest.mark.parametrize("identity", [3, 7, 8])
def test_hog_finds_a_drawn_person_and_no_one_on_a_wall(identity):
    detector = detection.load("hog")
    assert detector(np.full((240, 320, 3), 120, np.uint8), 0) == []
    assert detector(np.zeros((50, 50, 3), np.uint8), 0) == []
    rng = rendering.image_rng(0, identity, 0, 0)
    person = rendering.render(sample_person(0, identity), CAMERAS[0], rng, height=256, width=128)
    pixels = np.full((360, 480, 3), int(person[:, :3].mean()), np.uint8)
    pixels[50:306, 180:308] = person
    (box,) = detector(pixels, 0)
    width = min(box.x + box.w, 308) - max(box.x, 180)
    height = min(box.y + box.h, 306) - max(box.y, 50)
    assert width * height / (box.w * box.h + 128 * 256 - width * height) > 0.5 and box.score > 0.5
