"""Parts d, e and f of `benchmarks/accelerator.py`: search, a whole training, and what feeds it."""

import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import input as photographs
from benchmarks import reporting
from benchmarks.accelerator_sizes import Session
from configs import demo
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.data.batches import training_batches
from jax_mspac.data.image_set import ImageSet
from jax_mspac.data.images import read_rgb, resize
from jax_mspac.data.sampling import IdentitySampler
from jax_mspac.metrics.search import search
from jax_mspac.runtime import parallel
from jax_mspac.training.loop import train

Row = dict[str, Any]
# Features that are drawn at a time.
_DRAWN = 250_000


def search_rows(session: Session) -> Iterator[Row]:
    """A row for each gallery, which lies on the device; every query has a neighbor that is known."""
    sizes = session.sizes
    for count in sizes.galleries:
        row: Row = {"gallery": count, "queries": sizes.queries, "dims": sizes.dims, "k": sizes.k}
        if session.left() <= 0:
            yield {**row, "left_out": "no time"}
            continue
        gallery = _gallery(count, sizes.dims)
        planted = np.linspace(0, count - 1, sizes.queries).astype(np.int64)
        noise = np.random.default_rng(0).standard_normal((sizes.queries, sizes.dims)).astype(np.float32)
        queries = np.asarray(gallery[planted]) + 0.2 * noise / np.sqrt(sizes.dims)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        first, (similarities, positions) = reporting.timed(lambda g=gallery, q=queries: search(q, g, k=sizes.k))
        turns = [reporting.timed(lambda g=gallery, q=queries: search(q, g, k=sizes.k))[0] for _ in range(sizes.repeats)]
        seconds = statistics.median(turns)
        row |= {
            "seconds": seconds,
            "first_seconds": first,
            "queries_per_second": sizes.queries / seconds,
            "gallery_GB_per_second": gallery.nbytes / seconds / 1e9,
            "planted_found": float(np.mean(positions[:, 0] == planted)),
        }
        if count <= 1_000_000:
            # All at once, which a larger gallery leaves no memory for.
            whole = jax.jit(lambda q, g: jax.lax.top_k(jnp.matmul(q, g.T, precision="highest"), sizes.k)[0])
            expected = np.asarray(whole(queries, gallery))
            row["largest_difference"] = float(np.abs(similarities - expected).max())
        yield row
        del gallery


def _gallery(count: int, dims: int) -> jax.Array:
    """Unit features float32 [count, dims] on the device, drawn there block by block."""

    @jax.jit
    def block(number: jax.Array) -> jax.Array:
        drawn = jax.random.normal(jax.random.fold_in(jax.random.key(0), number), (min(_DRAWN, count), dims))
        return drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)

    filled = jax.jit(
        lambda gallery, features, start: jax.lax.dynamic_update_slice(gallery, features, (start, 0)), donate_argnums=0
    )
    gallery = jnp.zeros((count, dims), jnp.float32)
    for number, start in enumerate(range(0, count, _DRAWN)):
        gallery = filled(gallery, block(jnp.int32(number)), jnp.int32(start))
    return jax.block_until_ready(gallery)


def demo_run(session: Session) -> Iterator[Row]:
    """The demo in float32 and, if there is time, in bfloat16."""
    drawn_in = _drawn(session)
    took = 0.0
    for dtype in session.sizes.demo_dtypes:
        if session.left() < took:
            yield {"dtype": dtype, "left_out": "no time"}
            continue
        config = demo.get_config()
        config.update_from_flattened_dict(
            {**session.sizes.demo, "data.memory": str(session.demo_file), "eval.baselines": False, "model.dtype": dtype}
        )
        config = methods.configured(config, chosen=config_lib.chosen(config))
        config_lib.validate(config)
        workdir, log = session.folder / f"demo-{dtype}", session.folder / f"demo-{dtype}.log"
        with log.open("w") as file, contextlib.redirect_stdout(file):
            took, outcome = reporting.timed(lambda c=config, w=workdir: train(c, w))
        primary = outcome["rows"][outcome["primary"]]
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        yield {
            "dtype": dtype,
            "steps": outcome["step"],
            "seconds": took,
            "drawing_waited_seconds": drawn_in,
            "rank1": primary["rank1"]["mean"],
            "mAP": primary["mAP"]["mean"],
            "images_per_second": statistics.median(line["images_per_second"] for line in lines),
            "last_loss": lines[-1]["loss"],
        }
        drawn_in = 0.0


def _drawn(session: Session) -> float:
    """Waits for the people to be drawn; seconds of it."""
    start = time.monotonic()
    try:
        status = session.drawing.wait(timeout=max(1.0, session.left()))
    except subprocess.TimeoutExpired:
        raise RuntimeError("the demo's people are not drawn yet, and there is no time to wait for them") from None
    if status:
        raise RuntimeError(f"the demo's people could not be drawn: {session.drawing_log.read_text()[-2000:]}")
    return time.monotonic() - start


def input_rows(session: Session) -> Iterator[Row]:
    """Images per second that the host decodes, looks up and sends, beside those of the fastest training step."""
    sizes = session.sizes
    height, width = sizes.network.get("height", 288), sizes.network.get("width", 144)
    root = session.folder / "photographs"
    photographs.draw(root, *sizes.photographs)
    files = [path.read_bytes() for path in sorted(root.rglob("*.jpg"))]

    def decode(data: bytes) -> np.ndarray:
        return resize(read_rgb(data), height, width)

    rates = {}
    with ThreadPoolExecutor() as threads:
        list(threads.map(decode, files))
        turns = [reporting.timed(lambda: list(threads.map(decode, files)))[0] for _ in range(sizes.repeats)]
    rates["decoded from JPEG, PIL in threads"] = len(files) / statistics.median(turns)
    rates["looked up in memory"], batch = _looked_up(sizes.cells[0][2], height, width)
    # One device, as everywhere in this script, whatever the machine has.
    devices = jax.local_devices()[:1]
    jax.block_until_ready(parallel.shard(batch, devices))
    sent = [reporting.timed(lambda: jax.block_until_ready(parallel.shard(batch, devices)))[0] for _ in range(10)]
    images = sum(part["slot"].size for part in batch.values())
    rates["sent to the device"] = images / statistics.median(sent)
    for name, rate in rates.items():
        row: Row = {"input": name, "images_per_second": rate, "height": height, "width": width}
        if session.fastest:
            row |= {"step_images_per_second": session.fastest[0], "step": session.fastest[1]}
            row["input_over_step"] = rate / session.fastest[0]
        yield row


def _looked_up(size: int, height: int, width: int) -> tuple[float, Any]:
    """Images per second of the batches of a set in memory, and the last batch."""
    people, each = max(size // 8, 2), 8
    labels = np.tile(np.repeat(np.arange(people, dtype=np.int32), each), 2)
    count = len(labels)
    image_set = ImageSet(
        images=np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8),
        identities=labels,
        cameras=np.ones(count, np.int32),
        modalities=np.repeat(np.arange(2, dtype=np.int32), count // 2),
        paths=np.array([f"{i:06d}" for i in range(count)], object),
        identity_names=tuple(f"{i:04d}" for i in range(people)),
        file_digests=np.array([""] * count, object),
    )
    each_modality = max(size // 2 // max(size // 8, 1), 1)
    sampler = IdentitySampler(image_set, seed=0, identities=max(size // 8, 2), images=(each_modality, each_modality))
    steps = 20
    batches = training_batches(sampler, height=height, width=width, start=0, stop=steps + 1)
    batch = next(batches)
    seconds, batch = reporting.timed(lambda: [*batches][-1])
    return steps * sampler.batch_size / seconds, batch
