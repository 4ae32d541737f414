"""People in a frame: OpenCV's detector by histograms of oriented gradients, or a network in an ONNX file."""

import ast
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jax_mspac.errors import UserError
from jax_mspac.search.boxes import Box

HOG = "hog"
# What the rows of a network's output are; see `decoded`.
LAYOUTS = ("yolov5", "yolov8", "yolov10")
# Of the two that find a person several times: overlap, as intersection over union, from which on two boxes are one.
OVERLAP = 0.45
_PERSON = "person"
# Around the frame in the input of a network, and its side where the file leaves it open: as YOLO is trained.
_GRAY, _SIDE = 114, 640
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
# Left, top, right, bottom of each box, [N, 4], and scores, [N].
Found = tuple[np.ndarray, np.ndarray]


class Detector(Protocol):
    """Finds people.

    Attributes:
      identity: what the boxes depend on, so that frames need not be searched twice.
    """

    identity: str

    def __call__(self, pixels: np.ndarray, frame: int) -> list[Box]:
        """The boxes of a frame, uint8 [H, W, 3], in whole pixels, by descending score."""


def load(name: str | os.PathLike, *, layout: str | None = None, min_score: float | None = None) -> Detector:
    """The detector "hog", or the one of an ONNX file.

    Args:
      name: which.
      layout: of the file's output, a name of LAYOUTS; default: told by its shape.
      min_score: boxes of a lower score do not count; default: 0.25 of a network, whose scores are of 0 to 1, and 0.5
        of "hog", whose are distances from the margin of a support vector machine.

    Raises:
      UserError: there is no such detector, or it is none of this.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"a layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    if str(name) == HOG:
        if layout is not None:
            raise UserError(f"{HOG} has no layout {layout!r}; leave it out")
        return Histograms(0.5 if min_score is None else min_score)
    path = pathlib.Path(name).expanduser()
    if path.suffix.lower() != ".onnx":
        raise UserError(f"detector {str(name)!r}: expected {HOG}, or an .onnx file")
    return Network(path, layout, 0.25 if min_score is None else min_score)


class Histograms:
    """The people detector of Dalal and Triggs (CVPR 2005) that OpenCV brings with its weights.

    It finds whole people who stand upright, from 128 pixels of height on with the space around them.
    """

    def __init__(self, min_score: float):
        import cv2

        self._cv2, self._min_score = cv2, min_score
        self._descriptor = cv2.HOGDescriptor()
        self._descriptor.setSVMDetector(np.asarray(cv2.HOGDescriptor.getDefaultPeopleDetector()))
        self.identity = f"{HOG} {cv2.__version__} {min_score}"

    def __call__(self, pixels: np.ndarray, frame: int) -> list[Box]:
        width, height = self._descriptor.winSize
        if pixels.shape[0] < height or pixels.shape[1] < width:
            return []
        gray = self._cv2.cvtColor(pixels, self._cv2.COLOR_RGB2GRAY)
        found, scores = self._descriptor.detectMultiScale(gray, winStride=(8, 8), scale=1.05)
        corners = np.reshape(np.asarray(found, np.float64), (-1, 4))
        corners[:, 2:] += corners[:, :2]
        return _boxes(suppressed((corners, np.reshape(scores, -1)), self._min_score), pixels.shape, frame)


class Network:
    """A detector in an ONNX file, run by onnxruntime on CPUs.

    Its input is one image float [1, 3, H, W], RGB in [0, 1]: the frame, scaled to fit, in the middle of gray. Its first
    output has a layout of `decoded`. Which class is a person the file tells (`names` in its metadata, as exports of
    YOLO have it); without it it is the first one, as in COCO.

    Raises:
      UserError: the file is no network, or one of another form.
    """

    def __init__(self, path: pathlib.Path, layout: str | None, min_score: float):
        import onnxruntime

        try:
            data = path.read_bytes()
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4  # what is wrong is raised
            session: Any = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; expected an .onnx file of a detector") from error
        except Exception as error:  # onnxruntime's exceptions have no common class but this
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"{path}: cannot be read as a network ({reason}); export the detector again") from error
        self._session, self._path, self._layout, self._min_score = session, path, layout, min_score
        given = session.get_inputs()
        shapes = ", ".join(f"{one.name} {one.type} {one.shape}" for one in given)
        shape = list(given[0].shape) if given else []
        if len(given) != 1 or len(shape) != 4 or shape[1] not in (3, None) and not isinstance(shape[1], str):
            raise UserError(f"{path}: its input is {shapes}; expected one image, float [1, 3, height, width]")
        if given[0].type not in _TYPES or isinstance(shape[0], int) and shape[0] != 1:
            raise UserError(f"{path}: its input is {shapes}; expected one image, float [1, 3, height, width]")
        self._name, self._type = given[0].name, _TYPES[given[0].type]
        self._size = [side if isinstance(side, int) else _SIDE for side in shape[2:]]
        self._person = _person(session.get_modelmeta().custom_metadata_map.get("names"), path)
        digest = hashlib.sha256(data).hexdigest()
        self.identity = f"{digest} {layout} {min_score} {OVERLAP}"

    def __call__(self, pixels: np.ndarray, frame: int) -> list[Box]:
        image, scale, corner = letterboxed(pixels, *self._size)
        tensor = (image.transpose(2, 0, 1)[None] / 255).astype(self._type)
        try:
            output = np.asarray(self._session.run(None, {self._name: tensor})[0], np.float32)
        except Exception as error:
            raise UserError(f"{self._path}: does not run ({str(error).partition(chr(10))[0]})") from error
        try:
            layout, found = decoded(output, person=self._person, layout=self._layout)
        except UserError as error:
            outputs = ", ".join(f"{one.name} {one.shape}" for one in self._session.get_outputs())
            raise UserError(f"{self._path} (outputs: {outputs}): {error}") from None
        corners = (found[0] - np.tile(corner, 2)) / scale
        overlap = 1.0 if layout == "yolov10" else OVERLAP
        return _boxes(suppressed((corners, found[1]), self._min_score, overlap), pixels.shape, frame)


def letterboxed(pixels: np.ndarray, height: int, width: int) -> tuple[np.ndarray, float, np.ndarray]:
    """A frame, uint8 [H, W, 3], scaled to fit in the middle of a gray image, uint8 [height, width, 3].

    Returns:
      The image, the scale, and where the frame's corner is: (x, y).
    """
    import cv2

    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    size = [max(round(side * scale), 1) for side in pixels.shape[:2]]
    left, top = (width - size[1]) // 2, (height - size[0]) // 2
    image = np.full((height, width, 3), _GRAY, np.uint8)
    image[top : top + size[0], left : left + size[1]] = cv2.resize(
        pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
    )
    return image, scale, np.array([left, top], np.float64)


def decoded(output: np.ndarray, *, person: int = 0, layout: str | None = None) -> tuple[str, Found]:
    """The people of a network's output, in pixels of its input.

    The layouts, for C classes:
      yolov5: [1, N, 5 + C], a row of center x, center y, width, height, objectness, and a score per class; the score
        of a box is their product. Also YOLOv7's.
      yolov8: [1, 4 + C, N], a column of center x, center y, width, height, and a score per class. Also YOLO11's.
      yolov10: [1, N, 6], a row of left, top, right, bottom, score, class; the network itself leaves out repetitions.
        Also YOLO26's, and that of exports with nms=True.

    Args:
      output: of the network.
      person: the number of the class.
      layout: which; default: six columns are yolov10, else the larger side counts the boxes. So a yolov5 of one class
        has to be named.

    Returns:
      The layout, and boxes whose best class is a person.

    Raises:
      UserError: it is none of these, or has no such class.
    """
    shape = list(output.shape)
    if len(shape) != 3 or shape[0] != 1 or min(shape) < 1:
        # No box at all is an answer, too.
        if len(shape) != 3 or shape[0] != 1 or shape[1] or shape[2] != 6:
            raise UserError(f"an output is {shape}; expected {_expected()}")
    if layout is None:
        layout = "yolov10" if shape[2] == 6 else "yolov5" if shape[1] > shape[2] else "yolov8"
    rows = np.asarray(output[0].T if layout == "yolov8" else output[0], np.float64)
    least = {"yolov5": 6, "yolov8": 5, "yolov10": 6}[layout]
    if rows.shape[1] < least or (layout == "yolov10" and rows.shape[1] != least):
        raise UserError(f"an output is {shape}, which is not {layout}; expected {_expected()}")
    if layout == "yolov10":
        kept = rows[rows[:, 5] == person]
        return layout, (kept[:, :4], kept[:, 4])
    scores = rows[:, 5:] * rows[:, 4:5] if layout == "yolov5" else rows[:, 4:]
    if person >= scores.shape[1]:
        raise UserError(
            f"an output is {shape}: as {layout} it has {scores.shape[1]} classes; a person is class {person}"
        )
    kept = scores.argmax(axis=1) == person
    centers, sides = rows[kept, :2], rows[kept, 2:4]
    return layout, (np.concatenate([centers - sides / 2, centers + sides / 2], axis=1), scores[kept, person])


def suppressed(found: Found, min_score: float, overlap: float = OVERLAP) -> Found:
    """Non-maximum suppression: without boxes of a low score, and those that overlap one of a higher score.

    Args:
      found: boxes and scores.
      min_score: the least that counts.
      overlap: intersection over union above which the lower one is left out.

    Returns:
      The others, by descending score.
    """
    import cv2

    corners, scores = found
    kept = (scores >= min_score) & np.isfinite(corners).all(axis=1) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
    corners, scores = corners[kept], scores[kept]
    if not len(scores):
        return corners, scores
    sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    positive = scores - scores.min() + 1  # as OpenCV wants them
    order = np.reshape(cv2.dnn.NMSBoxes(sides.tolist(), positive.tolist(), 0.0, overlap), -1).astype(int)
    return corners[order], scores[order]


def _boxes(found: Found, shape: Sequence[int], frame: int) -> list[Box]:
    """Boxes in whole pixels, those that have any in a frame of this shape, each once."""
    unique: dict[tuple[int, ...], Box] = {}
    for corners, score in zip(*found, strict=True):
        left, top, right, bottom = (int(value) for value in np.rint(corners))
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, shape[1]), min(bottom, shape[0])
        if left < right and top < bottom:
            box = Box(frame=frame, x=left, y=top, w=right - left, h=bottom - top, score=float(score))
            unique.setdefault((left, top, right, bottom), box)
    return list(unique.values())


def _person(names: str | None, path: pathlib.Path) -> int:
    """The number of the class of people, by what the file tells of its classes."""
    if not names:
        return 0
    try:
        given = ast.literal_eval(names)
        classes = dict(enumerate(given)) if isinstance(given, list | tuple) else {int(k): v for k, v in given.items()}
    except (ValueError, SyntaxError, AttributeError, TypeError, MemoryError, RecursionError):
        return 0
    people = [number for number, name in classes.items() if str(name).lower() in (_PERSON, "pedestrian", "people")]
    if not people and len(classes) > 1:
        some = ", ".join(map(str, list(classes.values())[:8]))
        raise UserError(
            f"{path}: none of its {len(classes)} classes is {_PERSON!r}: {some}, ...; take another detector"
        )
    return people[0] if people else next(iter(classes), 0)


def _expected() -> str:
    return "[1, N, 5 + classes] (yolov5), [1, 4 + classes, N] (yolov8) or [1, N, 6] (yolov10)"
