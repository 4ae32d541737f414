"""A small index that is served, for tests of the page."""

import contextlib
import threading

import uvicorn
from PIL import Image

import jax_mspac
from helpers import indexes
from jax_mspac.search.entries import Filter
from jax_mspac.search.serving import server
from jax_mspac.search.serving.app import application
from jax_mspac.search.serving.searcher import Searcher
from jax_mspac.search.store import Store

# A name that shows itself if it is ever taken for HTML.
HOSTILE = "<img src=x onerror=alert(1)>&\"'.png"


def fill(folder, model):
    """An index of twelve images: of two cameras and of none, of both modalities; returns the paths of the images."""
    shots = indexes.draw_noise(folder / "shots", 12)
    hostile = shots[3].rename(shots[3].with_name(HOSTILE))
    shots[3] = hostile
    with jax_mspac.Index.open(folder / "index") as index:
        index.add(shots[:5], model=model, modality="visible", camera="gate", time="2026-11-28 10:00", batch=4)
        index.add(shots[5:8], modality="visible", camera="<b>door</b>", time="2026-11-28 12:00", batch=4)
        index.add(shots[8:], modality="infrared", batch=4)
    return shots


def calibrate(folder, threshold, modality="visible"):
    """Sets the threshold for entries of one modality, whatever the query is of."""
    facts = {f"{query}->{modality}": {"threshold": threshold} for query in ("visible", "infrared")}
    with Store(folder / "index", create=False) as store, store.writing():
        store.set_fact("thresholds", facts)


def hits(folder, images, modality, **wanted):
    """What the index itself answers."""
    with jax_mspac.Index.open(folder / "index") as index:
        return index.query(images, modality, **wanted)


def entries(folder):
    with jax_mspac.Index.open(folder / "index") as index:
        return index.entries(Filter())


def photograph(path, size, **options):
    Image.new("RGB", size, "#336699").save(path, **options)
    return path


@contextlib.contextmanager
def running(folder, model, **options):
    """The page at a port of this machine; gives its address."""
    with contextlib.closing(Searcher(folder / "index", model)) as searcher:
        app = application(searcher, hosts={"127.0.0.1"}, **options)
        listening = server.listener("127.0.0.1", 0)
        served = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=served.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            served.should_exit = True
            thread.join()
            listening.close()
