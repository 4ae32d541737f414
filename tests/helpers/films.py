"""Small films of drawn people whose boxes are known, and detectors whose output is."""

import numpy as np
from PIL import Image

from helpers.trees import draw_person

WIDTH, HEIGHT, FPS = 160, 96, 10
# Person -> (first frame, last frame, left in the first frame, pixels to the right a frame, top, size).
PEOPLE = {"3": (0, 7, 10, 4, 20, (24, 48)), "8": (4, 11, 100, -3, 30, (28, 56))}
FRAMES = 14


def boxes():
    """(frame, track, x, y, w, h), by ascending frame."""
    return [
        (frame, track, left + (frame - first) * step, top, *size)
        for frame in range(FRAMES)
        for track, (first, last, left, step, top, size) in PEOPLE.items()
        if first <= frame <= last
    ]


def frames():
    """uint8 [FRAMES, HEIGHT, WIDTH, 3]."""
    pictures = [Image.new("RGB", (WIDTH, HEIGHT), (30, 40, 50 + 5 * frame)) for frame in range(FRAMES)]
    for frame, track, x, y, w, h in boxes():
        pictures[frame].paste(draw_person(int(track), 1, frame, infrared=False, size=(w, h)), (x, y))
    return np.stack([np.asarray(picture) for picture in pictures])


def save_frames(folder):
    """Writes the frames 1.png, 2.png, ... and returns the folder."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(frames(), 1):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def save_video(path, pictures=None):
    """Writes an MJPG video, and returns its path."""
    import cv2

    pictures = frames() if pictures is None else pictures
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, pictures.shape[2:0:-1])
    assert writer.isOpened()
    for pixels in pictures:
        writer.write(np.ascontiguousarray(pixels[..., ::-1]))
    writer.release()
    return path


def save_boxes(path, *, tracks=True, some=None):
    """Writes a file as MOTChallenge has it, and returns its path."""
    rows = boxes() if some is None else some
    path.write_text(
        "".join(
            f"{frame + 1},{track if tracks else -1},{x + 1},{y + 1},{w},{h},1,-1,-1,-1\n"
            for frame, track, x, y, w, h in rows
        )
    )
    return path


def save_detector(path, output, *, size=(96, 160), names=None, shape=None):
    """Writes an ONNX file that answers every image, float [1, 3, *size], with `output` less the image's mean times 0.

    Its input counts, so that a wrong type or shape of it is an error of the run.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    output = np.asarray(output, np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["known", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape or [1, 3, *size])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, output.shape)],
        [numpy_helper.from_array(output, "known"), numpy_helper.from_array(np.float32(0), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if names is not None:
        helper.set_model_props(model, {"names": names})
    onnx.save(model, path)
    return path
