"""Exact search: the images of a gallery that are most similar to each query.

Only two blocks of similarities exist at a time, so the gallery may be larger than memory: a `numpy.memmap`, say. Equal
similarities are in the order of gallery positions, as in `retrieval`.
"""

import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from jax_mspac.errors import UserError

# Similarities of a block: 16 MB, and large enough a product to keep all cores busy.
PAIRS = 2**22
# Queries at a time; more would leave too few gallery images for a block.
_QUERIES = 1024
# Gallery images at a time, however few the queries are.
_IMAGES = 2**15
# Gallery images of which only the most similar one is looked at first; fewer, where that leaves few such chunks.
_CHUNK = 64
_CHUNKS_PER_RESULT = 8

# Similarities float32 [Q, k], descending, and gallery positions int64 [Q, k].
Found = tuple[np.ndarray, np.ndarray]


def search(queries: np.ndarray, gallery: np.ndarray, *, k: int, pairs: int = PAIRS) -> Found:
    """The k gallery images with the largest inner products; of unit features these are the cosines.

    Args:
      queries: float [Q, D].
      gallery: float [G, D]; read by slices, in a thread of their own where there are several, and converted to float32.
        Where there is an accelerator it does the
        search, and the gallery may be a `jax.Array` that lies there.
      k: how many, at most G.
      pairs: similarities of a block.

    Returns:
      Similarities, float32 [Q, k], in descending order, and positions in the gallery, int64 [Q, k].

    Raises:
      UserError: k is not in 1..G, or a feature is not finite.
      ValueError: the shapes do not fit.
    """
    queries = np.asarray(queries, np.float32)
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries {queries.shape} and gallery {gallery.shape}: expected [Q, D] and [G, D]")
    if not 1 <= k <= len(gallery):
        raise UserError(f"k is {k}, but the gallery has {len(gallery)} images; expected 1 to {len(gallery)}")
    _check("queries", np.isfinite(queries).all(axis=1))
    on_host = jax.default_backend() == "cpu"  # where top_k of XLA takes longer than the product
    similarities = np.empty((len(queries), k), np.float32)
    positions = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), _QUERIES):
        rows = slice(start, start + _QUERIES)
        block = max(1, min(_IMAGES, pairs // len(queries[rows])))
        similarities[rows], positions[rows] = (_on_host if on_host else _on_device)(queries[rows], gallery, k, block)
    return similarities, positions


def _on_host(queries: np.ndarray, gallery: np.ndarray, k: int, block: int) -> Found:
    """Searches with BLAS; a chunk of a block is read only if its maximum may be among the top k of a query."""
    count = len(queries)
    block = min(block, len(gallery))
    size = max(1, min(_CHUNK, block // (_CHUNKS_PER_RESULT * k)))
    # Query, similarity and position of what may be among the top k: those as of the last sorting, and newer ones.
    found: tuple[np.ndarray, ...]
    found = np.repeat(np.arange(count), k), np.full(count * k, -np.inf, np.float32), np.full(count * k, -1)
    newer: list[tuple[np.ndarray, ...]] = []
    worst = np.full(count, -np.inf, np.float32)
    for start, table in _tables(queries, gallery, block, size):
        # Of equal similarities the earlier image counts: what only equals the worst is no candidate.
        peaks = table.max(axis=1)
        chunk, query = np.nonzero(peaks > worst)
        bound = worst
        if np.bincount(query, minlength=count).max() > k:
            # The top k lie in the k chunks with the largest peaks, and none is below all of these.
            best = _best(query, peaks[chunk, query], chunk, k)
            chunk, query = chunk[best], query[best]
            bound = np.where(np.bincount(query, minlength=count) < k, worst, np.inf).astype(np.float32)
            np.minimum.at(bound, query, peaks[chunk, query])
        values = table[chunk, :, query]
        row, place = np.nonzero((values > worst[query, None]) & (values >= bound[query, None]))
        newer.append((query[row], values[row, place], start + chunk[row] * size + place))
        # Sorting seldom costs less than a worst similarity that is up to date saves.
        if start + block >= len(gallery) or sum(len(part[0]) for part in newer) >= count * k:
            found = tuple(np.concatenate(column) for column in zip(found, *newer, strict=True))
            best = _best(found[0], found[1], found[2], k)
            found, newer = tuple(column[best] for column in found), []
            worst = found[1].reshape(count, k)[:, -1]
    return found[1].reshape(count, k), found[2].reshape(count, k)


def _tables(queries: np.ndarray, gallery: np.ndarray, block: int, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Each block's first position and its similarities, float32 [chunks, size, Q], -inf beyond the gallery's end.

    While one is looked at, a thread multiplies the next: looking takes one core, and reading a file none.
    """
    shape = (-(-block // size), size, len(queries))

    def fill(start: int, table: np.ndarray) -> None:
        flat = table.reshape(-1, len(queries))
        images = np.asarray(gallery[start : start + block], np.float32)
        np.matmul(images, queries.T, out=flat[: len(images)])
        # With a feature that is not finite no similarity is.
        _check("gallery", np.isfinite(flat[: len(images), 0]), start)
        flat[len(images) :] = -np.inf

    table, other = np.empty(shape, np.float32), np.empty(shape, np.float32)
    fill(0, table)
    if len(gallery) <= block:
        yield 0, table
        return
    context = contextvars.copy_context()  # how the caller wants floating-point errors to be treated
    with ThreadPoolExecutor(1) as thread:
        for start in range(block, len(gallery), block):
            following = thread.submit(context.run, fill, start, other)
            yield start - block, table
            following.result()
            table, other = other, table
        yield start, table


def _best(owner: np.ndarray, value: np.ndarray, position: np.ndarray, k: int) -> np.ndarray:
    """Indices of at most k entries per owner, by ascending owner, descending value, ascending position."""
    order = np.lexsort((position, -value, owner))
    owner = owner[order]
    return order[np.arange(owner.size) - np.searchsorted(owner, owner) < k]


def _on_device(queries: np.ndarray, gallery: np.ndarray, k: int, block: int) -> Found:
    """Searches on an accelerator; a block of the gallery is sent there while the one before is searched."""
    block = min(max(block, k), len(gallery))
    on_device = jnp.asarray(queries)
    found = jnp.full((len(queries), k), -jnp.inf), jnp.full((len(queries), k), -1)
    finite = []
    for start in range(0, len(gallery), block):
        images = jnp.asarray(gallery[start : start + block], jnp.float32)
        padded = jnp.pad(images, ((0, block - len(images)), (0, 0)))
        found, of_block = _merge(found, on_device, padded, len(images), start)
        finite.append((start, of_block))
    for start, of_block in finite:
        _check("gallery", np.asarray(of_block), start)
    return np.asarray(found[0]), np.asarray(found[1], np.int64)


@jax.jit
def _merge(
    found: tuple[jax.Array, jax.Array], queries: jax.Array, images: jax.Array, count: int, start: int
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """The top k of those found, [Q, k] each, and of the first `count` of images [B, D]; and which are finite, [B]."""
    similarity, position = found
    values = jnp.matmul(queries, images.T, precision=jax.lax.Precision.HIGHEST)
    of_block, places = jax.lax.top_k(jnp.where(jnp.arange(len(images)) < count, values, -jnp.inf), similarity.shape[1])
    # Of equal ones top_k takes the first: those of earlier blocks.
    similarity, chosen = jax.lax.top_k(jnp.concatenate([similarity, of_block], axis=1), similarity.shape[1])
    position = jnp.take_along_axis(jnp.concatenate([position, start + places], axis=1), chosen, axis=1)
    return (similarity, position), jnp.isfinite(values[0])


def _check(name: str, finite: np.ndarray, start: int = 0) -> None:
    """Refuses features, of the positions from `start` on, of which one is not finite."""
    if not finite.all():
        position = start + np.flatnonzero(~finite)[0]
        raise UserError(f"{name}: the feature at position {position} is not finite; leave it out or compute it again")
