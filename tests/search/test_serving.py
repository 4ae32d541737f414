"""The page's answers, against those of the index itself."""

import asyncio
import contextlib
import hashlib
import io
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import films, indexes, serving
from PIL import Image
from starlette.testclient import TestClient

import jax_mspac
from jax_mspac.errors import UserError
from jax_mspac.search import footage
from jax_mspac.search.entries import Entry
from jax_mspac.search.serving import app as answers
from jax_mspac.search.serving import pictures
from jax_mspac.search.serving.searcher import Searcher, id_of
from jax_mspac.search.store import Store

JSON = {"accept": "application/json"}


@pytest.fixture
def shots(tmp_path, model):
    return serving.fill(tmp_path, model)


@pytest.fixture
def client(tmp_path, shots, model):
    with contextlib.closing(Searcher(tmp_path / "index", model)) as searcher:
        with TestClient(answers.application(searcher), base_url="http://127.0.0.1:8000") as client:
            yield client


def ask(client, images, status=200, headers=JSON, **fields):
    """The answer to a query of image files: paths, or (name, bytes)."""
    named = [one if isinstance(one, tuple) else (one.name, one.read_bytes()) for one in images]
    answer = client.post("/query", files=[("images", one) for one in named], data=fields, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json() if headers is JSON else answer.text


def flat(found):
    return [(hit["path"], hit["rank"], hit["match"]) for hit in found["hits"]]


def test_an_upload_finds_what_the_index_finds(tmp_path, client, shots):
    for images, modality, wanted in (
        (shots[:1], "visible", {}),
        (shots[2:5], "infrared", {}),
        (shots[:1], "visible", {"of": "infrared", "top": 2}),
        (shots[:1], "visible", {"cameras": ["gate", "<b>door</b>"]}),
        (shots[:1], "visible", {"since": "2026-11-28T11:00", "until": "2026-11-28T12:00:01"}),
    ):
        fields = {"camera" if name == "cameras" else name: value for name, value in wanted.items()}
        found = ask(client, images, modality=modality, **fields)
        expected = serving.hits(tmp_path, images, modality, **wanted)
        assert flat(found) == [(hit.path, hit.rank, hit.match) for hit in expected]
        similarities = [hit["similarity"] for hit in found["hits"]]
        assert similarities == pytest.approx([hit.similarity for hit in expected], abs=1e-6)
    assert len(flat(found)) == 3
    assert ask(client, shots[:1], modality="visible", camera="nowhere")["hits"] == []
    assert "No image fits" in ask(client, shots[:1], headers={}, modality="visible", camera="nowhere")


def test_the_line_parts_what_reaches_the_threshold(tmp_path, client, shots):
    similarities = [hit.similarity for hit in serving.hits(tmp_path, shots[0], "visible", of="visible")]
    serving.calibrate(tmp_path, (similarities[2] + similarities[3]) / 2)
    text = ask(client, shots[:1], headers={}, modality="visible", of="visible")
    assert "<h2>3 matches</h2>" in text
    above, line, below = re.split(r"(no match below\s+[-.\d]+)", text)
    ranks = [[int(rank) for rank in re.findall(r"Rank (\d+),", part)] for part in (above, below)]
    assert ranks == [[1, 2, 3], [4, 5, 6, 7, 8]]
    assert float(line.split()[-1]) == pytest.approx((similarities[2] + similarities[3]) / 2, abs=1e-3)
    # Of infrared entries no threshold is known: they stand apart from both.
    text = ask(client, shots[:1], headers={}, modality="visible")
    assert len(re.split("no match below|no threshold is calibrated for these", text)) == 3
    serving.calibrate(tmp_path, 1.5)
    text = ask(client, shots[:1], headers={}, modality="visible", of="visible")
    assert "<h2>No match</h2>" in text and text.index("no match below") < text.index("Rank 1,")


def test_an_entry_is_searched_by_its_own_features(tmp_path, client, shots):
    first = ask(client, [shots[6]], modality="infrared", of="infrared")["hits"][0]
    found = ask(client, [], entry=first["id"], modality="visible", top=5)
    assert found["query"]["modality"] == "infrared" and found["query"]["names"] == first["path"]
    expected = serving.hits(tmp_path, first["path"], "infrared", top=6)
    assert expected[0].path == first["path"]
    assert flat(found) == [(hit.path, hit.rank - 1, hit.match) for hit in expected[1:]]
    # The same image, uploaded, is the same query: what was marked is found again.
    by_file = ask(client, [next(path for path in shots if str(path) == first["path"])], modality="infrared")
    assert by_file["query"]["id"] == found["query"]["id"]


def large_png():
    """Few bytes that decode to too many pixels."""
    file = io.BytesIO()
    Image.new("1", (8000, 7000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "data, message",
    [
        (b"no image", "notes.txt: not an image that can be read"),
        (b"", "notes.txt: not an image that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image that can be read"),
        (large_png(), "8000 x 7000 pixels; at most 50 million"),
        ("truncated", "the image is damaged"),
    ],
    ids=["text", "empty", "svg", "eps", "pixels", "truncated"],
)
def test_wrong_files_are_told_by_name(client, shots, data, message):
    data = shots[0].read_bytes()[:-400] if data == "truncated" else data
    told = ask(client, [shots[0], ("notes.txt", data)], status=400, modality="visible")["error"]
    assert message in told and "notes.txt" in told
    assert ask(client, [shots[0]], modality="visible")["hits"]


def test_wrong_fields_are_told(client, shots):
    image, gone = shots[:1], "3-" + "0" * 16
    for fields, message in (
        ({}, "modality is ''; expected"),
        ({"modality": "visible", "since": "noon"}, "time is 'noon'; expected"),
        ({"modality": "visible", "since": "2026-01-02", "until": "2026-01-01"}, "no time lies between them"),
        ({"modality": "visible", "of": "thermal"}, "modality is 'thermal'"),
        ({"modality": "visible", "top": "0"}, "top is '0'; expected a number from 1 to 200"),
        ({"modality": "visible", "top": "9" * 5000}, "expected a number from 1 to 200"),
        ({"entry": gone}, "no longer in the index"),
        ({"entry": "../../etc/passwd"}, "no longer in the index"),
    ):
        assert message in ask(client, image, status=400, **fields)["error"], fields
    assert "which image" in ask(client, [], status=400, modality="visible")["error"]
    assert "Too many files" in ask(client, image * 9, status=400, modality="visible")["error"]
    assert '<p class="error" role="alert">which image' in ask(client, [], status=400, headers={}, modality="visible")


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_too_long_is_not_read(client, announced):
    """50 MB in parts, with and without a Content-Length: refused before, or once the limit is passed."""
    part, read, sent = b"x" * 1_000_000, [], []
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=b")]
    headers += [(b"content-length", b"50000000")] if announced else []
    head = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'

    async def receive():
        read.append(len(part))
        return {"type": "http.request", "body": part if read[1:] else head, "more_body": len(read) < 50}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/query", "headers": headers, "query_string": b""}
    asyncio.run(client.app({**scope, "scheme": "http", "server": ("127.0.0.1", 80)}, receive, send))
    assert sent[0]["status"] == 413
    assert sum(read) == 0 if announced else answers.MAX_BYTES < sum(read) < answers.MAX_BYTES + 3_000_000


def test_pictures_are_those_of_entries_and_nothing_else(tmp_path, client, shots):
    hits = ask(client, [shots[0]], modality="visible", top=12)["hits"]
    by_path = {hit["path"]: hit["id"] for hit in hits}
    answer = client.get(f"/image/{by_path[str(shots[0])]}")
    picture = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "image/jpeg" and picture.size == (16, 32)
    difference = np.asarray(picture.convert("L"), int) - np.asarray(Image.open(shots[0]).convert("L"), int)
    assert np.abs(difference).mean() < 12
    one, two = (by_path[str(path)] for path in shots[:2])
    mixed = f"{one.partition('-')[0]}-{two.partition('-')[2]}"
    (tmp_path / "secret.png").write_bytes(shots[0].read_bytes())
    for name in (
        mixed,
        one[:-1],
        "0",
        f"{tmp_path}/secret.png",
        "..%2f..%2fsecret.png",
        "99999-0000000000000000",
        "²-x",
    ):
        for kind in ("image", "thumbnail", "frame", "entry"):
            assert client.get(f"/{kind}/{name}", headers=JSON).status_code in (400, 404), name
    shots[0].write_bytes(shots[1].read_bytes())
    assert "changed since it</text>" in client.get(f"/image/{one}").text
    shots[0].unlink()
    answer = client.get(f"/image/{one}")
    assert answer.status_code == 404 and "the file is gone" in answer.text
    assert answer.headers["content-type"] == "image/svg+xml"


def test_large_photographs_lose_what_else_the_file_tells(tmp_path, client, model):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "where it was taken", 6  # a quarter turn
    path = serving.photograph(tmp_path / "large.jpg", (4000, 3000), exif=exif)
    with jax_mspac.Index.open(tmp_path / "index") as index:
        index.add(path, model=model, modality="visible", camera="roof")
    [hit] = ask(client, [path], modality="visible", camera="roof")["hits"]
    for kind, size in (("image", (1200, 1600)), ("thumbnail", (240, 320))):
        data = client.get(f"/{kind}/{hit['id']}").content
        assert Image.open(io.BytesIO(data)).size == size and b"where it was" not in data


def test_a_crop_is_shown_in_its_frame(tmp_path, client, model):
    frame = serving.photograph(tmp_path / "frame.png", (640, 480))
    crops = indexes.draw_noise(tmp_path / "crops", 3, seed=5)
    table = tmp_path / "crops.csv"
    rows = [
        f'{crops[0]},{frame},,"100,50,60,120"',
        f'{crops[1]},{tmp_path}/a.mp4,7,"1,2,3,4"',
        f"{crops[2]},{frame},,no box",
    ]
    table.write_text("\n".join(["path,frame,frame_number,box", *rows]))
    with jax_mspac.Index.open(tmp_path / "index") as index:
        index.add(crops, model=model, modality="visible", camera="roof", metadata=table)
    ids = {hit["path"]: hit["id"] for hit in ask(client, [crops[0]], modality="visible", camera="roof")["hits"]}
    first, second, third = (ids[str(crop)] for crop in crops)
    pixels = np.asarray(Image.open(io.BytesIO(client.get(f"/frame/{first}").content)).convert("RGB"), int)
    assert pixels.shape == (480, 640, 3)
    box = np.array([0xFF, 0xB0, 0x00])
    close = np.abs(pixels - box).sum(axis=2) < 120
    assert close[49:172, 98].all() and close[49, 98:162].all() and not close[60:160, 105:155].any()
    assert f"/frame/{first}" in client.get(f"/entry/{first}").text
    for name in (second, third):
        assert client.get(f"/frame/{name}").status_code == 404
        assert "/frame/" not in client.get(f"/entry/{name}").text
    assert "a.mp4" in client.get(f"/entry/{second}").text


def test_a_box_of_a_frame_is_cut_out_of_it(tmp_path, client, shots):
    pixels = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    pixels[8:40, 10:26] = (20, 200, 40)
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    file = hashlib.sha256((tmp_path / "frame.png").read_bytes()).hexdigest()
    columns = {"frame": str(tmp_path / "frame.png"), "box": "10,8,16,32"}
    film = films.save_video(tmp_path / "film.avi")
    frame, _, *corners = films.boxes()[-1]
    video = {"frame": str(film), "frame_number": str(frame), "box": ",".join(map(str, corners))}
    made = [
        Entry(path=f"{tmp_path}/frame.png#box=10,8,16,32", digest=f"{file}.1", modality="visible", metadata=columns),
        Entry(path=f"{tmp_path}/frame.png#box=1,2,3,4", digest="0" * 64 + ".1", modality="visible", metadata=columns),
        Entry(path=f"{film}#frame=11&box=1", digest=f"{footage.digest_of(film)}.1", modality="visible", metadata=video),
        Entry(path="/a.mp4#frame=7&box=1", digest="0", modality="visible", metadata={**video, "frame": "/a.mp4"}),
    ]
    with Store(tmp_path / "index", create=False) as store, store.writing():
        store.put(made, np.eye(4, store.features().shape[1], dtype=np.float32))
    with Store(tmp_path / "index", create=False) as store:
        ids = {entry.path: id_of(row, entry) for row, entry in store.at([one.path for one in made]).values()}
    crop, changed, moving, gone = (client.get(f"/image/{ids[one.path]}") for one in made)
    shown, filmed = (np.asarray(Image.open(io.BytesIO(one.content)).convert("RGB"), int) for one in (crop, moving))
    assert shown.shape == (32, 16, 3) and np.abs(shown - (20, 200, 40)).max() < 12
    x, y, width, height = corners
    expected = films.frames()[frame, y : y + height, x : x + width]
    assert filmed.shape == expected.shape and np.abs(filmed - expected).mean() < 20
    assert "changed since it" in changed.text and "gone" in gone.text
    whole = Image.open(io.BytesIO(client.get(f"/frame/{ids[made[2].path]}").content))
    assert whole.size == (films.WIDTH, films.HEIGHT)


def test_names_are_text_and_not_html(client, shots):
    page = client.get("/").text
    assert "&lt;b&gt;door&lt;/b&gt;" in page and "<b>door" not in page
    text = ask(client, [(serving.HOSTILE, shots[3].read_bytes())], headers={}, modality="visible")
    assert "&lt;img src=x" in text and "<img src=x" not in text and "<b>door" not in text
    [found] = re.findall(r'data-id="([^"]+)"(?:(?!data-id).)*?onerror', text, re.S)[:1]
    assert "<img src=x" not in client.get(f"/entry/{found}").text
    told = ask(client, [(serving.HOSTILE, b"no")], status=400, headers={}, modality="visible")
    assert "&lt;img" in told and "<img" not in told


def test_another_model_is_refused_at_the_start_and_later(tmp_path, client, shots, folder):
    other = jax_mspac.load(indexes.trained(folder, "other", seed=1))
    with pytest.raises(UserError, match="features of two models do not compare"):
        Searcher(tmp_path / "index", other)
    with jax_mspac.Index.open(tmp_path / "index") as index:
        index.remove(tmp_path / "shots")
        assert "the index holds no images" in ask(client, [shots[0]], status=400, modality="visible")["error"]
        index.add(shots, model=other, modality="visible")
    assert "features of two models do not compare" in ask(client, [shots[0]], status=400, modality="visible")["error"]


def test_many_at_once_get_their_own_answers(client, shots):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda path: ask(client, [path], modality="visible", top=1)["hits"][0], shots[:8] * 3))
    assert [hit["path"] for hit in found] == [str(path) for path in shots[:8]] * 3
    assert all(hit["similarity"] == pytest.approx(1, abs=1e-6) for hit in found)


def test_what_is_decoded_is_what_the_project_reads(shots):
    from jax_mspac.data.images import read_rgb

    np.testing.assert_array_equal(pictures.decode(shots[0].read_bytes(), None), read_rgb(shots[0]))
    sixteen = io.BytesIO()
    Image.fromarray(np.arange(2000, dtype=np.uint16).reshape(40, 50) + 29000).save(sixteen, "TIFF")
    expected = read_rgb(sixteen.getvalue(), (29000, 31000))
    np.testing.assert_array_equal(pictures.decode(sixteen.getvalue(), (29000, 31000)), expected)
