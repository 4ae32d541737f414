"""The tables of SYSU-MM01, RegDB and LLCM, transcribed from the written rules one image at a time.

Slow on purpose, and nothing here comes from the package: the truth that its fast evaluation is held to.
"""

import random

import numpy as np
import scipy.io

RANKS = (1, 5, 10, 20)
VISIBLE, INFRARED = 0, 1
DIRECTIONS = {"visible->infrared": (VISIBLE, INFRARED), "infrared->visible": (INFRARED, VISIBLE)}
SYSU_GALLERY_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
SYSU_PLACE = {1: 1, 2: 2, 3: 2, 4: 4, 5: 5, 6: 6}


def transcription(distances, query_ids, gallery_ids, excluded=None, rank_unit="identity", max_rank=20):
    """One search, from rows of distances: (cmc, mAP, mINP, queries that have a match)."""
    hits, precisions, penalties = [0] * max_rank, [], []
    for q in range(len(query_ids)):
        ranking = sorted(range(len(gallery_ids)), key=lambda g, q=q: (distances[q][g], g))
        if excluded is not None:
            ranking = [g for g in ranking if not excluded[q][g]]
        ids = [gallery_ids[g] for g in ranking]
        if query_ids[q] not in ids:
            continue
        found, precision, last = 0, 0.0, 0
        for rank, identity in enumerate(ids, start=1):
            if identity == query_ids[q]:
                found, last = found + 1, rank
                precision += found / rank
        precisions.append(precision / found)
        penalties.append(found / last)
        if rank_unit == "identity":
            ids = list(dict.fromkeys(ids))
        for rank in range(ids.index(query_ids[q]), max_rank):
            hits[rank] += 1
    valid = len(precisions)
    return [hit / valid for hit in hits], sum(precisions) / valid, sum(penalties) / valid, valid


def cosine_table(features, queries):
    """One minus the cosine: {query: its distances to every image}."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return {q: (1 - unit @ unit[q]).tolist() for q in queries}


def read_lists(path):
    """rand_perm_cam.mat: {(camera, identity number): ten permutations of 1..n}."""
    cameras = scipy.io.loadmat(path)["rand_perm_cam"]
    return {
        (camera + 1, number + 1): cell[0].tolist()
        for camera, (cells,) in enumerate(cameras)
        for number, cell in enumerate(cells)
        if cell[0].size
    }


def sysu_table(distances, ids, cameras, numbers, lists, *, galleries, queries=None):
    """Infrared searches visible: {(galleries, mode, shots): figures}.

    Args:
      distances: `distances[q][g]` of positions in the test set, images in path order.
      ids: rank of each image's identity number.
      cameras: 1 to 6.
      numbers: identity number of each rank.
      lists: see `read_lists`; None where galleries leave "official" out.
      galleries: some of "official" and "seeded".
      queries: positions of the infrared images to search with; all of them by default.
    """
    images = _images_by_identity_and_camera(ids, cameras, range(len(ids)))
    queries = queries or [q for q in range(len(ids)) if cameras[q] in (3, 6)]
    figures = {}
    for kind in galleries:
        for mode in SYSU_GALLERY_CAMERAS:
            for count in (1, 10):
                drawn = []
                for trial in range(10):
                    if kind == "seeded":
                        drawn.append(_seeded(images, SYSU_GALLERY_CAMERAS[mode], count, trial))
                        continue
                    gallery = []
                    for (identity, camera), there in images.items():
                        if camera in SYSU_GALLERY_CAMERAS[mode]:
                            places = lists[camera, numbers[identity]][trial][:count]
                            gallery += [there[place - 1] for place in places]
                    drawn.append(sorted(gallery))
                figures[kind, mode, count] = _figures(
                    distances,
                    ids,
                    queries,
                    drawn,
                    lambda q, g: SYSU_PLACE[cameras[q]] == SYSU_PLACE[cameras[g]],
                    "identity",
                )
    return figures


def llcm_table(distances, ids, cameras, modalities):
    """{direction: figures}; arguments as in `sysu_table`, modalities 0 (visible) and 1 (infrared)."""
    figures = {}
    for direction, (query, gallery) in DIRECTIONS.items():
        queries, candidates = _of(modalities, query), _of(modalities, gallery)
        images = _images_by_identity_and_camera(ids, cameras, candidates)
        drawn = [_seeded(images, range(1, 10), 1, trial) for trial in range(10)]
        figures[direction] = _figures(
            distances, ids, queries, drawn, lambda q, g: ids[q] == ids[g] and cameras[q] == cameras[g], "identity"
        )
    return figures


def regdb_table(distances, ids, modalities):
    """{direction: figures} of one split."""
    return {
        direction: _figures(
            distances, ids, _of(modalities, query), [_of(modalities, gallery)], lambda q, g: False, "image"
        )
        for direction, (query, gallery) in DIRECTIONS.items()
    }


def _figures(distances, ids, queries, galleries, excluded, rank_unit):
    """{"queries", "gallery": mean sizes; metric: (mean, standard deviation, its value in each trial)}."""
    metrics = {name: [] for name in (*(f"rank{rank}" for rank in RANKS), "mAP", "mINP")}
    valid = []
    for gallery in galleries:
        cmc, precision, penalty, count = transcription(
            [[distances[q][g] for g in gallery] for q in queries],
            [ids[q] for q in queries],
            [ids[g] for g in gallery],
            [[excluded(q, g) for g in gallery] for q in queries],
            rank_unit,
        )
        valid.append(count)
        for rank in RANKS:
            metrics[f"rank{rank}"].append(cmc[rank - 1])
        metrics["mAP"].append(precision)
        metrics["mINP"].append(penalty)
    figures = {"queries": _mean(valid), "gallery": _mean([len(gallery) for gallery in galleries])}
    for name, values in metrics.items():
        deviation = _mean([(value - _mean(values)) ** 2 for value in values]) ** 0.5
        figures[name] = (_mean(values), deviation, values)
    return figures


def _seeded(images, gallery_cameras, shots, seed):
    """Identities ascending, cameras in the order of the mode: a random choice of the images there."""
    rng = random.Random(seed)
    gallery = []
    for identity in sorted({identity for identity, _ in images}):
        for camera in gallery_cameras:
            there = images.get((identity, camera))
            # The public rule draws one. Several are drawn without replacement, as many as there are.
            if there and shots == 1:
                gallery.append(rng.choice(there))
            elif there:
                gallery += rng.sample(there, min(shots, len(there)))
    return sorted(gallery)


def _images_by_identity_and_camera(ids, cameras, positions):
    images = {}
    for position in positions:
        images.setdefault((ids[position], cameras[position]), []).append(position)
    return images


def _of(modalities, wanted):
    return [position for position, modality in enumerate(modalities) if modality == wanted]


def _mean(values):
    return sum(values) / len(values)
