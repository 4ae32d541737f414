"""Files of boxes, by hand."""

import pytest

from jax_mspac.errors import UserError
from jax_mspac.search import boxes
from jax_mspac.search.boxes import Box


def test_motchallenge_counts_from_one_and_minus_one_is_no_track(tmp_path):
    file = tmp_path / "det.txt"
    file.write_text("2,-1,11,21.5,30,60,0.9,-1,-1,-1\n\n1, 7, 1, 1, 5, 6, -0.5, -1, -1, -1\n")
    assert boxes.read(file) == [
        Box(frame=0, x=0, y=0, w=5, h=6, track="7", score=-0.5),
        Box(frame=1, x=10, y=20.5, w=30, h=60, score=0.9),
    ]
    file.write_text("1 4 1 1 5 6\n")  # as some tools write it
    assert boxes.read(file) == [Box(frame=0, x=0, y=0, w=5, h=6, track="4")]


def test_ground_truth_of_motchallenge_says_what_is_not_to_be_considered(tmp_path):
    file = tmp_path / "gt.txt"
    file.write_text("1,1,1,1,5,6,1,1,0.8\n1,2,1,1,5,6,0,3,1\n")
    assert [box.track for box in boxes.read(file)] == ["1"]
    # Of results, which have ten columns, it is a score.
    file.write_text("1,1,1,1,5,6,1,-1,-1,-1\n1,2,1,1,5,6,0,-1,-1,-1\n")
    assert [box.track for box in boxes.read(file)] == ["1", "2"]
    assert [box.track for box in boxes.read(file, min_score=0.5)] == ["1"]


def test_csv_names_its_columns_in_any_order(tmp_path):
    file = tmp_path / "boxes.csv"
    file.write_text("Track,H,W,Y,X,Frame,note,SCORE\nanna,6,5,2,1,0,n,\n,60,30,20,10,b.png,n,0.25\n")
    assert boxes.read(file, {"a.png": 0, "b.png": 1}) == [
        Box(frame=0, x=1, y=2, w=5, h=6, track="anna"),
        Box(frame=1, x=10, y=20, w=30, h=60, score=0.25),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "0 boxes, none of which counts"),
        ("frame,x,y,w,h\n", "0 boxes, none of which counts"),
        ("frame,x,y,w\n0,1,1,1\n", "no column 'h'"),
        ("frame,x,y,w,h\n0,1,1,1\n", "line 2: 4 values; expected 5"),
        ("frame,x,y,w,h\nc.png,1,1,1,1\n", "line 2: there is no frame 'c.png'"),
        ("frame,x,y,w,h\n-1,1,1,1,1\n", "line 2: frame -1 comes before the first"),
        ("frame,x,y,w,h\n0,left,1,1,1\n", "line 2: x is 'left'"),
        ("frame,x,y,w,h\n0,nan,1,1,1\n", "line 2: x is 'nan'"),
        ("frame,x,y,w,h\n0,1,1,0,1\n", "line 2: the box is 0 x 1 pixels"),
        ("frame,x,y,w,h,track\n0,1,1,1,1,a\n0,2,2,1,1,a\n", "track a twice in frame 0"),
        ("frame,x,y,w,h\n0,1,1,1,1\n0,1,1,1,1\n", "the same box twice in frame 0"),
        ("frame,x,y,w,h,score\n0,1,1,1,1,0.5\n0,1,1,1,1,0.6\n", "the same box twice in frame 0"),
        ("0,1,1,1,5,5\n", "line 1: frame -1 comes before the first"),
        ("1,1,1,1,5\n", "line 1: '1,1,1,1,5'; expected frame,identity,left"),
        ("1.5,1,1,1,5,6\n", "expected frame,identity,left"),
        ("a picture\n", "expected frame,identity,left"),
        (b"\xff\xfe\x00", "cannot be read as text"),
    ],
)
def test_what_is_no_box_is_named_with_its_line(tmp_path, text, message):
    file = tmp_path / "boxes.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message) as raised:
        boxes.read(file)
    assert str(file) in str(raised.value)
    with pytest.raises(UserError, match="cannot be read as text"):
        boxes.read(tmp_path / "none.txt")


def test_margins_widen_to_whole_pixels_and_frames_cut():
    box = Box(frame=0, x=10, y=20, w=10, h=20)
    assert box.widened(0) == (10, 20, 20, 40)
    assert box.widened(0.25) == (7, 15, 23, 45)  # 2.5 pixels to the sides, 5 above and below
    assert boxes.inside((-5, -5, 3, 4), 100, 50) == (0, 0, 3, 4)
    assert boxes.inside((90, 40, 120, 70), 100, 50) == (90, 40, 100, 50)
    assert boxes.inside((100, 0, 110, 10), 100, 50) is None
    assert boxes.inside((0, -9, 5, 0), 100, 50) is None


def test_the_best_box_has_the_highest_score_then_the_largest_area_and_comes_first():
    plain = [Box(frame=0, x=0, y=0, w=5, h=5), Box(frame=1, x=0, y=0, w=5, h=6), Box(frame=2, x=0, y=0, w=6, h=5)]
    assert max(plain, key=Box.quality) is plain[1]
    scored = [Box(frame=3, x=0, y=0, w=1, h=1, score=0.1), *plain]
    assert max(scored, key=Box.quality) is scored[0]


def test_every_so_many_frames_of_each_track_from_its_first_on():
    of = lambda track, *numbers: [Box(frame=n, x=0, y=0, w=1, h=1, track=track) for n in numbers]  # noqa: E731
    given = sorted([*of("a", 1, 2, 3, 4, 5), *of("b", 7), *of(None, 0, 1, 2, 3, 4)], key=lambda box: box.frame)
    grouped = boxes.tracks(given, every=2)
    assert sorted((mine[0].track or "", [box.frame for box in mine]) for mine in grouped) == [
        ("", [0]),
        ("", [2]),
        ("", [4]),
        ("a", [1, 3, 5]),
        ("b", [7]),
    ]
    ends = [mine[-1].frame for mine in grouped]
    assert ends == sorted(ends)
