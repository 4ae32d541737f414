"""Exact search against numpy's sorting of all similarities."""

import numpy as np
import pytest

from jax_mspac.errors import UserError
from jax_mspac.metrics import search as search_lib
from jax_mspac.metrics.search import search

PATHS = ("_on_host", "_on_device")


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Both ways to search, whatever the platform."""
    chosen = getattr(search_lib, request.param)
    for name in PATHS:
        monkeypatch.setattr(search_lib, name, chosen)


def brute_force(queries, gallery, k):
    similarities = queries.astype(np.float64) @ gallery.astype(np.float64).T
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, order, axis=1), order


def whole_numbers(rng, *shape):
    """Features whose products are exact in any order of summation, and often equal."""
    return rng.integers(-2, 3, shape).astype(np.float32)


# 7 queries: blocks of 64 and of 5 images; all in one; fewer images in a block than are asked for.
@pytest.mark.parametrize("pairs", [7 * 64, 7 * 5, 2**20, 1])
@pytest.mark.parametrize("k", [1, 20, 333])
def test_agrees_with_brute_force_with_ties_in_order(path, pairs, k):
    rng = np.random.default_rng(0)
    queries, gallery = whole_numbers(rng, 7, 6), whole_numbers(rng, 333, 6)
    similarities, positions = search(queries, gallery, k=k, pairs=pairs)
    expected, order = brute_force(queries, gallery, k)
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(similarities, expected)
    assert similarities.dtype == np.float32 and positions.dtype == np.int64


def test_agrees_with_brute_force_on_unit_features(path):
    rng = np.random.default_rng(1)
    queries, gallery = rng.standard_normal((30, 16)), rng.standard_normal((2000, 16))
    queries, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery))
    similarities, positions = search(queries, gallery, k=10, pairs=30 * 300)
    expected, order = brute_force(queries, gallery, 10)
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_allclose(similarities, expected, atol=1e-6)


@pytest.mark.parametrize("direction", [1, -1])
def test_sorted_galleries_and_equal_images(path, direction):
    queries = np.ones((3, 1), np.float32)
    gallery = direction * np.repeat(np.arange(50), 5).astype(np.float32)[:, None]
    for images in (gallery, np.zeros_like(gallery)):
        _, positions = search(queries, images, k=12, pairs=3 * 64)
        np.testing.assert_array_equal(positions, brute_force(queries, images, 12)[1])


def test_many_queries_are_searched_in_parts(path, monkeypatch):
    monkeypatch.setattr(search_lib, "_QUERIES", 4)
    rng = np.random.default_rng(2)
    queries, gallery = whole_numbers(rng, 10, 6), whole_numbers(rng, 40, 6)
    np.testing.assert_array_equal(search(queries, gallery, k=3)[1], brute_force(queries, gallery, 3)[1])


def test_gallery_in_a_file_and_of_half_precision(path, tmp_path):
    rng = np.random.default_rng(3)
    queries, gallery = whole_numbers(rng, 4, 6), whole_numbers(rng, 100, 6).astype(np.float16)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    _, positions = search(queries, mapped, k=5, pairs=4 * 30)
    np.testing.assert_array_equal(positions, brute_force(queries, gallery, 5)[1])


def test_no_queries(path):
    similarities, positions = search(np.zeros((0, 6)), np.zeros((4, 6)), k=2)
    assert similarities.shape == positions.shape == (0, 2)


@pytest.mark.parametrize("k", [0, 5, -1])
def test_refuses_an_impossible_number(k):
    with pytest.raises(UserError, match=f"k is {k}, but the gallery has 4 images; expected 1 to 4"):
        search(np.zeros((2, 6)), np.zeros((4, 6)), k=k)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_names_a_feature_that_is_not_finite(path, value):
    queries, gallery = np.ones((3, 6), np.float32), np.ones((100, 6), np.float32)
    gallery[70, 2] = value
    with pytest.raises(UserError, match="gallery: the feature at position 70 is not finite"):
        search(queries, gallery, k=2, pairs=3 * 64)
    with pytest.raises(UserError, match="queries: the feature at position 1 is not finite"):
        search(np.where(np.arange(3)[:, None] == 1, value, queries), gallery, k=2)


def test_names_a_feature_that_is_not_finite_where_the_query_is_zero(path):
    gallery = np.ones((10, 6), np.float32)
    gallery[7, 2] = np.nan
    with pytest.raises(UserError, match="position 7 is not finite"):
        search(np.zeros((3, 6)), gallery, k=2)


def test_refuses_features_of_different_lengths():
    with pytest.raises(ValueError, match=r"queries \(2, 6\) and gallery \(4, 5\)"):
        search(np.zeros((2, 6)), np.zeros((4, 5)), k=1)
