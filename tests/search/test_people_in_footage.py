"""People in videos and folders of frames: the same features as those of their crops in files of their own."""

import json
import shutil

import numpy as np
import pytest
from helpers import films
from PIL import Image

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.metrics.distances import unit
from jax_mspac.search import crops
from jax_mspac.search.adding import Added
from jax_mspac.search.entries import Filter

BOXES = films.boxes()


@pytest.fixture
def index(tmp_path):
    with jax_mspac.Index.open(tmp_path / "index") as index:
        yield index


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """A folder with a video, its decoded frames, the drawn frames, and files of boxes."""
    folder = tmp_path_factory.mktemp("footage")
    films.save_video(folder / "gate.avi")
    films.save_frames(folder / "shots")
    films.save_boxes(folder / "gt.txt")
    films.save_boxes(folder / "det.txt", tracks=False)
    return folder


def features_of(index):
    """Path -> feature."""
    store = index._store
    with store.reading():
        positions = store.positions(Filter())
        features = np.array(store.features()[positions])
        return {entry.path: feature for entry, feature in zip(store.entries(positions), features, strict=True)}


def cropped(pixels, x, y, w, h):
    return Image.fromarray(pixels).crop((x, y, x + w, y + h))


def test_crops_of_frames_are_embedded_as_the_same_crops_in_files(index, model, footage, tmp_path):
    shots = footage / "shots"
    added = index.add_footage(
        frames=shots, boxes=footage / "det.txt", model=model, modality="visible", camera="gate", batch=5
    )
    assert added == Added(new=len(BOXES))
    expected = {}
    for number, (frame, _, *box) in enumerate(BOXES):
        file = tmp_path / f"{number}.png"
        cropped(films.frames()[frame], *box).save(file)
        name = f"{shots / f'{frame + 1}.png'}#box={','.join(map(str, box))}"
        expected[name] = model.embed(file, "visible")[0]
    found = features_of(index)
    assert found.keys() == expected.keys()
    for name, feature in expected.items():
        np.testing.assert_allclose(found[name], feature, atol=1e-6)
    entry = index.entries()[0]
    assert entry.camera == "gate" and entry.time is None
    assert entry.metadata == {"frame": str(shots / "1.png"), "box": "10,20,24,48"}
    # The picture of an entry is the crop.
    np.testing.assert_array_equal(
        np.asarray(crops.picture(entry)), np.asarray(cropped(films.frames()[0], 10, 20, 24, 48))
    )
    image, box = crops.whole(entry)
    assert image.size == (films.WIDTH, films.HEIGHT) and box == (10, 20, 24, 48)


def test_a_track_is_the_mean_of_its_crops_and_shows_the_best(index, model, footage, tmp_path):
    rows = ["frame,x,y,w,h,track,score"]
    for frame, track, *box in BOXES:
        rows.append(",".join(map(str, (f"{frame + 1}.png", *box, track, 0.9 if frame in (6, 7) else 0.5))))
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    options = {"frames": footage / "shots", "boxes": tmp_path / "boxes.csv", "model": model, "modality": "visible"}
    assert index.add_footage(**options, time="2026-11-28", fps=2, batch=3) == Added(new=2)
    found, frames = features_of(index), films.frames()
    for track in films.PEOPLE:
        mine = [cropped(frames[frame], *box) for frame, which, *box in BOXES if which == track]
        expected = unit(model.embed(mine, "visible").mean(axis=0, keepdims=True))[0]
        np.testing.assert_allclose(found[f"{footage / 'shots'}#track={track}"], expected, atol=1e-6)
    first, second = index.entries()
    # Of equal scores and areas the earlier box; frame 6 of 2 a second is 3 seconds after the first.
    assert first.metadata == {"frame": str(footage / "shots" / "7.png"), "box": "34,20,24,48", "track": "3"}
    assert first.time == second.time == 1795824003.0
    assert index.add_footage(**options) == Added(unchanged=2)


def test_every_and_margin(index, model, footage):
    options = {"frames": footage / "shots", "boxes": footage / "det.txt", "model": model, "modality": "visible"}
    added = index.add_footage(**options, every=5, margin=0.5)
    expected = {(frame, *box) for frame, _, *box in BOXES if frame % 5 == 0}
    assert added == Added(new=len(expected))
    # The name has the box as it was given, the column what was cut out: half of 28 x 56 to each side, in the frame.
    (entry,) = (entry for entry in index.entries() if "11.png" in entry.path)
    assert entry.path.endswith("11.png#box=82,30,28,56") and entry.metadata["box"] == "68,2,56,94"
    cut = cropped(films.frames()[10], 68, 2, 56, 94)
    np.testing.assert_allclose(features_of(index)[entry.path], model.embed(cut, "visible")[0], atol=1e-6)
    # Another margin shows other pixels of the same entries.
    assert index.add_footage(**options, every=5) == Added(replaced=len(expected))


def test_a_video_has_frame_numbers_and_times(index, model, footage):
    video, boxes = footage / "gate.avi", footage / "det.txt"
    assert index.add_footage(video=video, boxes=boxes, model=model, modality="infrared", time=100, batch=4) == Added(
        new=len(BOXES)
    )
    entries = {entry.path: entry for entry in index.entries()}
    for frame, _, *box in BOXES:
        text = ",".join(map(str, box))
        entry = entries[f"{video}#frame={frame}&box={text}"]
        assert entry.metadata == {"frame": str(video), "frame_number": str(frame), "box": text}
        assert entry.time == pytest.approx(100 + frame / films.FPS) and entry.modality == "infrared"
        picture = crops.picture(entry)
        np.testing.assert_allclose(features_of(index)[entry.path], model.embed(picture, "infrared")[0], atol=1e-6)
        # MJPG is lossy, and halves the resolution of colors.
        assert np.abs(np.asarray(picture, int) - np.asarray(cropped(films.frames()[frame], *box), int)).mean() < 12
    # Labels of another command do not embed again.
    again = index.add_footage(video=video, boxes=boxes, modality="infrared", camera="7", time=100)
    assert again == Added(relabeled=len(BOXES))
    assert {entry.camera for entry in index.entries()} == {"7"}


def test_again_adds_only_what_is_new(index, model, footage, tmp_path, monkeypatch):
    embedded = []
    embed = type(model).embed
    monkeypatch.setattr(
        type(model), "embed", lambda self, images, *a, **k: embedded.append(len(images)) or embed(self, images, *a, **k)
    )
    video = shutil.copy(footage / "gate.avi", tmp_path / "gate.avi")
    some = films.save_boxes(tmp_path / "some.txt", some=[row for row in BOXES if row[1] == "3"])
    options = {"video": video, "model": model, "modality": "visible"}
    assert index.add_footage(**options, boxes=some) == Added(new=1) and embedded == [8]
    embedded.clear()
    assert index.add_footage(**options, boxes=footage / "gt.txt") == Added(new=1, unchanged=1) and embedded == [8]
    embedded.clear()
    # A box less is another track; another video is another one altogether.
    fewer = films.save_boxes(tmp_path / "fewer.txt", some=[row for row in BOXES if row[:2] != (4, "8")])
    assert index.add_footage(**options, boxes=fewer) == Added(replaced=1, unchanged=1) and embedded == [7]
    films.save_video(video, films.frames()[:, :, ::-1])
    assert crops.picture(index.entries()[0]) == "the file has\nchanged"
    assert index.add_footage(**options, boxes=fewer) == Added(replaced=2)
    assert index.add_footage(**{**options, "modality": "infrared"}, boxes=fewer) == Added(replaced=2)
    assert len(index) == 2


def test_a_detector_searches_each_frame_once(index, model, footage, tmp_path):
    output = np.zeros((1, 40, 6), np.float32)
    output[0, 0], output[0, 1] = (10, 20, 34, 68, 0.9, 0), (100, 30, 128, 86, 0.6, 0)
    file = films.save_detector(tmp_path / "people.onnx", output)
    video = shutil.copy(footage / "gate.avi", tmp_path / "gate.avi")
    options = {"video": video, "model": model, "modality": "visible", "batch": 3, "every": 2}
    assert index.add_footage(**options, detector=file) == Added(new=14)
    names = {entry.path.partition("#")[2] for entry in index.entries()}
    assert names == {f"frame={n}&box={box}" for n in range(0, 14, 2) for box in ("10,20,24,48", "100,30,28,56")}

    class Counting:
        identity = "counted"
        calls = 0

        def __call__(self, pixels, frame):
            Counting.calls += 1
            return jax_mspac.search.detection.load(file)(pixels, frame)

    assert index.add_footage(**options, detector=Counting()) == Added(unchanged=14) and Counting.calls == 7
    assert index.add_footage(**options, detector=Counting()) == Added(unchanged=14) and Counting.calls == 7
    assert index.add_footage(**options, detector=Counting(), camera="1") == Added(relabeled=14) and Counting.calls == 7
    # What was removed is searched for again.
    assert index.remove(f"{video}#frame=4&box=10,20,24,48") == 1
    assert index.add_footage(**options, detector=Counting()) == Added(new=1, unchanged=13) and Counting.calls == 14
    # Nobody is an answer, and kept.
    nobody = films.save_detector(tmp_path / "nobody.onnx", np.zeros((1, 40, 6)))
    index.remove(video)
    assert len(index) == 0 and index.add_footage(**options, detector=nobody) == Added()
    assert json.loads(json.dumps(index._store.fact(f"detected {video}")))["frames"] == 13


def test_frames_that_are_added_to_a_folder_are_searched_alone(index, model, tmp_path):
    shots = films.save_frames(tmp_path / "shots")
    later = [shots / f"{number}.png" for number in range(10, 15)]
    kept = [path.read_bytes() for path in later]
    for path in later:
        path.unlink()
    seen = []

    class Detector:
        identity = "one box"

        def __call__(self, pixels, frame):
            seen.append(frame)
            return [jax_mspac.search.boxes.Box(frame=frame, x=0, y=0, w=20, h=40)]

    options = {"frames": shots, "detector": Detector(), "model": model, "modality": "visible"}
    assert index.add_footage(**options) == Added(new=9)
    for path, data in zip(later, kept, strict=True):
        path.write_bytes(data)
    seen.clear()
    assert index.add_footage(**options) == Added(new=5, unchanged=9) and seen == list(range(9, 14))
    # Of frames that changed all are searched, and only those embedded.
    (shots / "2.png").write_bytes(kept[0])
    seen.clear()
    assert index.add_footage(**options) == Added(replaced=1, unchanged=13) and len(seen) == 14


def test_removal_knows_videos_folders_and_single_entries(index, model, footage):
    video, shots = footage / "gate.avi", footage / "shots"
    options = {"model": model, "modality": "visible"}
    index.add_footage(video=video, boxes=footage / "gt.txt", **options)
    index.add_footage(frames=shots, boxes=footage / "gt.txt", **options)
    index.add_footage(frames=shots, boxes=footage / "det.txt", **options)
    index.add(shots / "2.png", **options)
    assert len(index) == 4 + len(BOXES) + 1
    assert index.remove(f"{video}#track=3") == 1 and index.remove(video) == 1
    assert index.remove(shots / "5.png") == 2  # two people in frame 4
    assert index.remove(shots / "2.png") == 2  # the image, and a person in it
    assert index.remove(shots) == 2 + len(BOXES) - 3
    with pytest.raises(UserError, match="no such image"):
        index.remove(video)


def test_what_is_outside_or_broken_is_left_out_and_told(index, model, footage, tmp_path):
    shots = shutil.copytree(footage / "shots", tmp_path / "shots")
    (shots / "6.png").write_bytes(b"")
    outside = tmp_path / "outside.csv"
    rows = [*(f"{frame},{x},{y},{w},{h},{track}" for frame, track, x, y, w, h in BOXES), "0,160,5,9,9,", "1,-9,0,9,9,9"]
    outside.write_text("frame,x,y,w,h,track\n" + "\n".join(rows))
    options = {"frames": shots, "boxes": outside, "model": model, "modality": "visible"}
    added = index.add_footage(**options, batch=4)
    assert added.new == 2 and set(added.unreadable) == {
        f"{shots / '1.png'}#box=160,5,9,9", f"{shots / '2.png'}#box=-9,0,9,9", str(shots / "6.png")
    }  # fmt: skip
    assert "outside of the frame, which has 160 x 96" in added.unreadable[f"{shots / '1.png'}#box=160,5,9,9"]
    frames = films.frames()
    mine = [cropped(frames[frame], *box) for frame, which, *box in BOXES if which == "3" and frame != 5]
    expected = unit(model.embed(mine, "visible").mean(axis=0, keepdims=True))[0]
    np.testing.assert_allclose(features_of(index)[f"{shots}#track=3"], expected, atol=1e-6)
    shutil.copy(footage / "shots" / "6.png", shots / "6.png")
    assert index.add_footage(**options).replaced == 2


def test_what_cannot_be_done_is_named(index, model, footage, tmp_path):
    video, boxes = footage / "gate.avi", footage / "gt.txt"
    many = films.save_boxes(tmp_path / "many.txt", some=[(20, "1", 0, 0, 9, 9)])
    odd = shutil.copy(video, tmp_path / "a.mp4#track=3")
    for options, message in (
        ({"video": video, "boxes": many}, "gate.avi has 14 frames, and the boxes name frame 20"),
        ({"video": video, "frames": footage, "boxes": boxes}, "Name one of both"),
        ({"boxes": boxes}, "Name one of both"),
        ({"video": video}, "where are people in it"),
        ({"video": video, "boxes": boxes, "detector": "hog"}, "one of both"),
        ({"video": video, "boxes": []}, "no boxes are given"),
        ({"video": video, "boxes": boxes, "every": 0}, "every is 0"),
        ({"video": video, "boxes": boxes, "margin": -1}, "margin is -1"),
        ({"video": video, "boxes": boxes, "batch": 0}, "batch is 0"),
        ({"video": video, "boxes": boxes, "fps": 0}, "fps is 0"),
        ({"video": odd, "boxes": boxes}, "its name is that of a part of a frame"),
        ({"frames": footage / "shots", "boxes": boxes, "time": 5}, "how many frames a second"),
        ({"video": video, "boxes": boxes, "modality": "thermal"}, "modality is 'thermal'"),
    ):
        with pytest.raises(UserError, match=message):
            index.add_footage(**{"model": model, "modality": "visible", **options})
    image = shutil.copy(footage / "shots" / "1.png", tmp_path / "b.png#box=1,2,3,4")
    assert "rename it" in index.add(image, model=model, modality="visible").unreadable[str(image)]
    assert len(index) == 0
