"""The page in a real browser, as people use it, and the command that serves it."""

import csv
import io
import json
import os
import re
import signal
import sys
import urllib.request

import pytest
from helpers import browser, serving, small_runs

from jax_mspac.search import __main__ as door

pytestmark = pytest.mark.slow
CARDS = "document.querySelectorAll('.card').length"
RANKS = "[...document.querySelectorAll('.card .score span')].map(e => Number(e.innerText))"


@pytest.fixture(scope="module")
def visitors(tmp_path_factory):
    with browser.started(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def shots(tmp_path, model):
    return serving.fill(tmp_path, model)


@pytest.fixture
def address(tmp_path, shots, model):
    serving.calibrate(tmp_path, 0.0)
    with serving.running(tmp_path, model) as address:
        yield address


def search(page, images, modality="visible"):
    page.choose("input[type=file]", images)
    page.click(f"input[name=modality][value={modality}]")
    page.until(f"{CARDS} > 0 && !document.querySelector('[aria-busy]')")


def shown(page):
    return page.value("[...document.querySelectorAll('.card')].map(e => e.dataset.id)")


def test_upload_filter_look_mark_and_search_again(tmp_path, visitors, address, shots):
    page = visitors.page()
    page.open(address)
    search(page, shots[:1])
    expected = serving.hits(tmp_path, shots[0], "visible")
    # Those that match above the line, those that do not below it, and infrared ones without a threshold last.
    groups = [[hit.rank for hit in expected if hit.match is match] for match in (True, False, None)]
    assert page.value(RANKS) == sum(groups, [])
    line = page.value("document.querySelector('.threshold').getBoundingClientRect().top")
    tops = page.value("[...document.querySelectorAll('.card.match')].map(e => e.getBoundingClientRect().bottom)")
    assert len(tops) == len(groups[0]) and all(top < line for top in tops)
    page.until("[...document.querySelectorAll('.shot img')].every(i => i.complete && i.naturalWidth == 16)")

    page.click("input[name=camera]", 1)
    page.until(f"{CARDS} == 5")
    page.click("input[name=camera]", 1)
    page.until(f"{CARDS} == 12")
    page.value("const since = document.querySelector('[name=since]'); since.value = '2026-11-28T11:00'; "
               "since.dispatchEvent(new Event('change', {bubbles: true}))")  # fmt: skip
    page.until(f"{CARDS} == 3")
    page.value("since.value = ''; since.dispatchEvent(new Event('change', {bubbles: true}))")
    page.click("input[name=of][value=infrared]")
    page.until(f"{CARDS} == 4")
    page.click("input[name=of][value='']")
    page.until(f"{CARDS} == 12")

    first, second = shown(page)[:2]
    page.click("[data-show]")
    page.until("document.querySelector('dialog[open] img')?.naturalWidth == 16")
    page.click("dialog [data-mark=right]")
    page.until("document.querySelectorAll('[data-mark=right][aria-pressed=true]').length == 2")
    page.press("ArrowRight", 39)
    page.until(f"document.querySelector('dialog .detail').dataset.id == '{second}'")
    page.press("Escape", 27)
    page.until("!document.querySelector('dialog[open]')")
    page.click("[data-mark=wrong]", 1)
    page.until("document.querySelectorAll('[data-mark=wrong][aria-pressed=true]').length == 1")

    page.click("[data-again]", 1)
    page.until(f"{CARDS} == 11")
    assert second not in shown(page) and page.value("document.querySelectorAll('#chosen img').length") == 1
    assert page.errors() == []

    again = visitors.page()
    again.open(address)
    search(again, shots[:1])
    pressed = (
        "[...document.querySelectorAll('[aria-pressed=true]')].map(e => [e.closest('.card').dataset.id, e.innerText])"
    )
    assert again.value(pressed) == [[first, "Right"], [second, "Wrong"]]
    with urllib.request.urlopen(f"{address}/marks.csv") as file:
        rows = list(csv.DictReader(io.StringIO(file.read().decode())))
    assert [row["verdict"] for row in rows] == ["right", "wrong"]
    assert again.errors() == []


def test_wrong_files_large_files_and_names_of_html(tmp_path, visitors, address, shots):
    (tmp_path / "notes.png").write_text("no image")
    (tmp_path / "large.png").write_bytes(bytes(50_000_000))
    page = visitors.page()
    page.open(address)
    page.click("button.main")
    page.until("document.querySelector('#told').innerText.includes('Choose an image first')") if page.value(
        "document.querySelector('[name=modality]').checkValidity()"
    ) else None
    page.choose("input[type=file]", [tmp_path / "large.png"])
    page.until("document.querySelector('#told').innerText == '50 MB; a query takes at most 32 MB.'")
    assert page.errors() == []
    # What the page refuses to send, the server refuses to read; the browser may find the connection closed.
    status = "fetch('/query', {method: 'POST', body: new Uint8Array(5e7)}).then(r => r.status, () => 413)"
    assert page.value(status) == 413

    page.choose("input[type=file]", [tmp_path / "notes.png"])
    page.click("input[name=modality][value=visible]")
    page.until("document.querySelector('#results .error')?.innerText.startsWith('notes.png: not an image')")
    page.click("#chosen button")
    page.until("!document.querySelector('#chosen li')")
    search(page, [shots[3]])
    assert page.value("document.querySelector('[data-names]').dataset.names") == serving.HOSTILE.replace('"', "%22")
    text = page.value("document.querySelector('.card .file').innerText")
    assert text == serving.HOSTILE
    page.click("[data-show]")
    page.until(f"document.querySelector('dialog[open]')?.innerText.includes({json.dumps(serving.HOSTILE)})")
    assert page.value("document.querySelectorAll('b, [onerror]').length") == page.value(
        "document.querySelectorAll('#drop b, .score b').length"
    )
    # The two answers that were refusals, and nothing else.
    assert all(re.search(r"status of 4(00|13)|net::ERR_", told) for told in page.errors()), page.errors()


def test_paste_drop_and_keyboard(visitors, address):
    page = visitors.page()
    page.open(address, width=390, height=844, dark=True)
    page.value("""(async () => {
        const canvas = new OffscreenCanvas(16, 32);
        canvas.getContext('2d').fillRect(0, 0, 9, 9);
        window.carried = new DataTransfer();
        carried.items.add(new File([await canvas.convertToBlob()], 'image.png', {type: 'image/png'}));
        document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: carried, bubbles: true}));
        document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: carried, bubbles: true, cancelable: true}));
    })()""")
    page.until("document.querySelectorAll('#chosen img').length == 2")
    page.value("document.querySelector('[name=modality]').focus()")
    page.press(" ", 32)
    page.until(f"{CARDS} == 12")
    assert page.value("document.querySelector('[data-names]').dataset.names") == "image.png, image.png"
    # Nothing is wider than the phone.
    assert page.value("document.documentElement.scrollWidth") <= 390
    page.value("document.querySelector('[data-show]').focus()")
    page.press("Enter", 13)
    page.until("document.querySelector('dialog[open]')")
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 27)"
    assert page.errors() == []


def test_two_at_once_have_their_own_answers(tmp_path, visitors, address, shots):
    pages = [visitors.page(), visitors.page()]
    for page, shot in zip(pages, (shots[0], shots[6]), strict=True):
        page.open(address)
        page.choose("input[type=file]", [shot])
    for page in pages:
        page.value("document.querySelector('[name=modality]').click()")
    for page, shot in zip(pages, (shots[0], shots[6]), strict=True):
        page.until(f"{CARDS} == 12 && !document.querySelector('[aria-busy]')")
        assert page.value("document.querySelector('.card .file').title") == str(shot)
        page.click("[data-mark=right]")
        page.until("document.querySelector('[aria-pressed=true]')")
    with urllib.request.urlopen(f"{address}/marks.csv") as file:
        rows = list(csv.DictReader(io.StringIO(file.read().decode())))
    assert [row["path"] for row in rows] == [str(shots[0]), str(shots[6])]
    assert pages[0].errors() == pages[1].errors() == []


def test_a_token_opens_the_page_once(tmp_path, visitors, shots, model):
    with serving.running(tmp_path, model, token="a-token-of-some-length") as address:
        page = visitors.page()
        page.open(f"{address}/?token=a-token-of-some-length")
        assert page.value("location.href") == f"{address}/"
        search(page, shots[:1])
        page.until("[...document.querySelectorAll('.shot img')].every(i => i.complete && i.naturalWidth == 16)")
        assert page.errors() == []
        stranger = visitors.page()
        stranger.open(address)
        assert "A token is needed" in stranger.value("document.body.innerText")


def test_the_command_serves_until_it_is_told_to_stop(tmp_path, shots):
    told = tmp_path / "told"
    small_runs._ensure_server()
    process = small_runs.PROCESSES.Process(target=_serve, args=(str(tmp_path / "index"), 0, str(told)))
    process.start()
    small_runs.wait_for(told, "Ctrl-C", process, timeout=120)
    address = re.search(r"http://127.0.0.1:(\d+)/", told.read_text())
    with urllib.request.urlopen(address[0]) as page:
        assert b"12 images" in page.read()
    second = small_runs.PROCESSES.Process(target=_serve, args=(str(tmp_path / "index"), int(address[1]), str(told)))
    second.start()
    assert small_runs.end(second) == 1
    assert f"error: --host 127.0.0.1 --port {address[1]}: Address already in use; stop what uses it" in told.read_text()
    os.kill(process.pid, signal.SIGINT)
    assert small_runs.end(process) == 0 and "Traceback" not in told.read_text()


def _serve(index, port, told):
    for stream in (1, 2):
        os.dup2(os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    small_runs.register()
    values = door.flags.FlagValues()
    door.define_flags(values)
    try:
        door.run(values(["search", "serve", "--index", index, "--port", str(port)]), values)
    finally:
        sys.stdout.flush()
