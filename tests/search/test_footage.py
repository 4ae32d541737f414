"""Frames of videos and folders, by their numbers."""

import fractions
import re
import struct

import av
import numpy as np
import pytest
from helpers import films

from jax_mspac.errors import UserError
from jax_mspac.search import footage

COUNT, WIDTH, HEIGHT = 40, 64, 48
MILLISECOND = fractions.Fraction(1, 1000)


def marked(number):
    """A frame that tells its number in six black and white bars, with a red left and a blue right side."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[24:, :32], pixels[24:, 32:] = (200, 30, 30), (30, 30, 200)
    for bit in range(6):
        pixels[:24, bit * 10 : bit * 10 + 10] = 255 if number >> bit & 1 else 0
    return pixels


def number_of(pixels):
    return sum(int(pixels[6:18, bit * 10 + 3 : bit * 10 + 7].mean() > 127) << bit for bit in range(6))


def encode(path, codec, *, steps=None, **options):
    """A video of the marked frames; with `steps` each is shown that many milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        clock = 0
        if steps is not None:
            stream.codec_context.time_base = MILLISECOND
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(marked(number), format="rgb24")
            if steps is not None:
                frame.pts, frame.time_base = clock, MILLISECOND
                clock += int(steps[number])
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """With frames that are stored in another order than they are shown, at a variable rate, and without an index."""
    folder = tmp_path_factory.mktemp("videos")
    steps = np.random.default_rng(0).integers(20, 90, COUNT)
    return {
        "mp4": encode(folder / "a.mp4", "libx264", bf="3", g="12"),
        "variable": encode(folder / "b.mp4", "libx264", steps=steps, bf="3", g="12"),
        "mkv": encode(folder / "c.mkv", "libx264", bf="3", g="12"),
        "ts": encode(folder / "d.ts", "libx264", bf="3", g="12"),
        "avi": encode(folder / "e.avi", "mpeg4", g="12"),
    }


@pytest.mark.parametrize("kind", ["mp4", "variable", "mkv", "ts", "avi"])
def test_a_frame_is_the_same_one_in_order_and_by_its_number(videos, kind):
    video = footage.Video(videos[kind])
    assert [number_of(frame.pixels) for frame in video.frames(lambda number: True)] == list(range(COUNT))
    assert [frame.number for frame in video.frames(lambda number: number % 7 == 3)] == [3, 10, 17, 24, 31, 38]
    for number in (0, 1, 11, 12, 13, 29, COUNT - 1):
        assert number_of(footage.read_frame(video.path, number)) == number
    with pytest.raises(UserError, match=f"has no frame {COUNT}"):
        footage.read_frame(video.path, COUNT)
    assert video.count in (COUNT, None) and (video.count or kind not in ("mp4", "avi"))
    assert kind == "variable" or video.fps == pytest.approx(25)


def test_a_rotated_video_is_upright(videos, tmp_path):
    data = bytearray(videos["mp4"].read_bytes())
    matrix = data.find(b"tkhd") + 44
    assert struct.unpack(">9i", data[matrix : matrix + 36])[0] == 1 << 16  # as it is
    # As a phone writes it that was held upright: shown turned to the right by 90 degrees.
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    first = next(footage.Video(path).frames(lambda number: True)).pixels
    for pixels in (first, footage.read_frame(str(path), 0)):
        assert pixels.shape == (WIDTH, HEIGHT, 3)
        # Turned to the right, the red left bottom comes to the left top.
        assert pixels[10, 10].argmax() == 0 and pixels[-10, 10].argmax() == 2


def test_frames_of_a_folder_come_by_the_numbers_of_their_names(tmp_path):
    folder = films.save_frames(tmp_path / "shots")
    (folder / "notes.txt").write_text("no frame")
    source = footage.Folder(folder, fps=5)
    assert source.count == films.FRAMES and source.file(9) == str(folder / "10.png")
    for frame, pixels in zip(source.frames(lambda number: True), films.frames(), strict=True):
        np.testing.assert_array_equal(frame.pixels, pixels)
    (folder / "3.png").write_bytes(b"")
    problems = [frame.problem for frame in source.frames(lambda number: number in (1, 2))]
    assert problems[0] == "" and problems[1].startswith("the file is empty")


def test_what_is_no_footage_is_named(tmp_path, videos):
    for name, content in (
        ("empty.mp4", b""),
        ("text.avi", b"no video"),
        ("cut.mp4", videos["mp4"].read_bytes()[:3000]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: cannot be read as a video"):
            footage.Video(tmp_path / name)
    # Scripts of FFmpeg that name other files.
    (tmp_path / "script.mp4").write_text(f"ffconcat version 1.0\nfile '{videos['avi']}'\n")
    with pytest.raises(UserError, match="cannot be read as a video"):
        footage.Video(tmp_path / "script.mp4")
    for name in ("nowhere.mp4", "http://127.0.0.1/a.mp4", str(tmp_path), "%03d.png"):
        with pytest.raises(UserError, match="there is no such video file"):
            footage.Video(name)
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        container.mux([*stream.encode(sound), *stream.encode()])
    with pytest.raises(UserError, match="holds no video"):
        footage.Video(tmp_path / "sound.mkv")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no image file in this folder"):
        footage.Folder(tmp_path / "none")
    with pytest.raises(UserError, match="there is no such folder of frames"):
        footage.Folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "codec, told",
    [
        # Versions of PyAV differ in whether they raise an error of a decoder that runs in threads. With a single core
        # it runs in none and raises.
        ("png", "only 5 of 12 frames can be decoded|from frame [45] on nothing can be decoded"),
        ("mjpeg", "only 10 of 12 frames can be decoded|from frame 2 on nothing can be decoded"),
    ],
)
def test_a_video_that_is_damaged_tells_where(tmp_path, codec, told):
    path = tmp_path / "damaged.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb24" if codec == "png" else "yuvj420p"
        for noise in np.random.default_rng(0).integers(0, 256, (12, HEIGHT, WIDTH, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    assert [bool(frame.problem) for frame in footage.Video(path).frames(lambda number: True)] == [False] * 12
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    *frames, last = footage.Video(path).frames(lambda number: True)
    assert re.match(told, last.problem) and last.pixels is None
    told_of = int(re.search(r"\d+", last.problem).group())
    assert [frame.number for frame in frames] == list(range(told_of)) and last.number == told_of


def test_an_error_of_the_decoder_ends_the_frames_with_its_number(videos, monkeypatch):
    calls = []

    def failing(frame):
        calls.append(frame)
        if len(calls) == 4:
            raise av.error.InvalidDataError(1, "broken", "a.mp4")

    monkeypatch.setattr(footage, "_pixels", failing)
    *frames, last = footage.Video(videos["mp4"]).frames(lambda number: True)
    assert len(frames) == 3 and last.problem.startswith("from frame 3 on nothing can be decoded (broken)")
