"""Queries, galleries and exclusions against the written rules of each data set."""

import random

import numpy as np
import pytest
import scipy.io
from helpers.plain_protocols import transcription
from helpers.sets import PROTOCOLS

from jax_mspac.data.sysu_mm01 import load_permutations
from jax_mspac.errors import UserError
from jax_mspac.metrics import evaluate_protocol
from jax_mspac.protocols import RetrievalProtocol, Trial, sysu_mm01
from jax_mspac.protocols.base import same_identity_and_camera, seeded_gallery
from jax_mspac.protocols.sysu_lists import parse_permutations

VISIBLE, INFRARED = 0, 1
NUMBERS = [6, 10, 17, 333]


def tree(missing=((10, 1), (17, 2), (333, 6)), cameras=range(1, 7), infrared=(3, 6), shift=0):
    """Paths of a small data set, sorted, and its identities, cameras and modalities."""
    paths = sorted(
        f"cam{camera}/{number:04d}/{image:04d}.jpg"
        for camera in cameras
        for number in NUMBERS
        for image in range(1, 13 + (number + camera + shift) % 5)
        if (number, camera) not in missing
    )
    cameras = np.array([int(path[3]) for path in paths])
    identities = np.array([NUMBERS.index(int(path[5:9])) for path in paths])
    return paths, identities, cameras, np.where(np.isin(cameras, infrared), INFRARED, VISIBLE)


def cells(identities, cameras, seed=0):
    """The nested cells of rand_perm_cam.mat for a test set, and the same as {(camera, number): rows from 1}."""
    rng = np.random.default_rng(seed)
    outer, plain = np.empty((6, 1), object), {}
    for camera in range(1, 7):
        outer[camera - 1, 0] = np.empty((333, 1), object)
        for number in range(1, 334):
            n = np.sum((cameras == camera) & (identities == NUMBERS.index(number))) if number in NUMBERS else 0
            plain[camera, number] = np.array([rng.permutation(n) + 1 for _ in range(10)], np.uint8).reshape(10, n)
            outer[camera - 1, 0][number - 1, 0] = plain[camera, number]
    return outer, plain


@pytest.mark.parametrize("mode, gallery_cameras", [("all", (1, 2, 4, 5)), ("indoor", (1, 2))])
def test_sysu_seeded_single_shot_is_the_public_draw(mode, gallery_cameras):
    paths, *arrays = tree()
    (protocol,) = PROTOCOLS["sysu_mm01"](*arrays, modes=(mode,))
    assert (protocol.name, protocol.mode, protocol.shots, protocol.direction) == (
        "seeded",
        mode,
        1,
        "infrared->visible",
    )
    assert len(protocol.trials) == 10
    state = random.getstate()
    for seed, trial in enumerate(protocol.trials):
        random.seed(seed)
        drawn = []
        for number in NUMBERS:
            for camera in gallery_cameras:
                files = sorted(path for path in paths if path.startswith(f"cam{camera}/{number:04d}/"))
                if files:
                    drawn.append(random.choice(files))
        assert [paths[g] for g in trial.gallery] == sorted(drawn)
        assert [paths[q] for q in trial.queries] == [path for path in paths if path[3] in "36"]
    random.setstate(state)


def test_sysu_validation_mode():
    paths, *arrays = tree(cameras=(3, 4, 5), missing=())
    (protocol,) = PROTOCOLS["sysu_mm01"](*arrays, modes=("validation",), trials=3)
    for trial in protocol.trials:
        assert {paths[q][3] for q in trial.queries} == {"3"}
        assert sorted(paths[g][3:9] for g in trial.gallery) == sorted(f"{c}/{n:04d}" for c in (4, 5) for n in NUMBERS)
    assert not protocol.excluded(np.zeros(1), np.array([3]), np.zeros(2), np.array([4, 5])).any()


@pytest.mark.parametrize("mode, gallery_cameras", [("all", (1, 2, 4, 5)), ("indoor", (1, 2))])
@pytest.mark.parametrize("shots", [1, 10])
def test_sysu_official_takes_the_first_entries_of_row_t(mode, gallery_cameras, shots):
    paths, *arrays = tree()
    outer, plain = cells(*arrays[:2])
    (protocol,) = PROTOCOLS["sysu_mm01"](
        *arrays,
        galleries=("official",),
        modes=(mode,),
        shots=(shots,),
        permutations=parse_permutations(outer),
        identity_numbers=NUMBERS,
    )
    for t, trial in enumerate(protocol.trials):
        expected = []
        for number in NUMBERS:
            for camera in gallery_cameras:
                files = sorted(path for path in paths if path.startswith(f"cam{camera}/{number:04d}/"))
                expected += [files[entry - 1] for entry in plain[camera, number][t][:shots]]
        assert [paths[g] for g in trial.gallery] == sorted(expected)


def test_sysu_lists_galleries_modes_and_shots():
    _, *arrays = tree()
    listed = PROTOCOLS["sysu_mm01"](
        *arrays,
        galleries=("official", "seeded"),
        shots=(1, 10),
        trials=2,
        permutations=parse_permutations(cells(*arrays[:2])[0]),
        identity_numbers=NUMBERS,
    )
    assert [(p.name, p.mode, p.shots) for p in listed] == [
        (name, mode, shots) for name in ("official", "seeded") for mode in ("all", "indoor") for shots in (1, 10)
    ]
    assert {p.rank_unit for p in listed} == {"identity"} and {len(p.trials) for p in listed} == {2}


def test_sysu_excludes_the_same_place_whatever_the_identity():
    cameras = np.arange(1, 7)
    excluded = sysu_mm01.same_place(np.zeros(6), cameras, np.ones(6), cameras)
    pairs = {(q, g) for q, g in zip(*(axis + 1 for axis in np.nonzero(excluded)), strict=True)}
    assert pairs == {(c, c) for c in range(1, 7)} | {(2, 3), (3, 2)}


def test_sysu_mistakes_are_named():
    _, *arrays = tree()
    permutations = parse_permutations(cells(*arrays[:2])[0])
    official = {"galleries": ("official",), "identity_numbers": NUMBERS}
    with pytest.raises(UserError, match=r"galleries: unknown \['oficial'\]"):
        PROTOCOLS["sysu_mm01"](*arrays, galleries=("oficial",))
    with pytest.raises(UserError, match=r"modes: unknown \['outdoor'\]"):
        PROTOCOLS["sysu_mm01"](*arrays, modes=("outdoor",))
    with pytest.raises(UserError, match="rand_perm_cam.mat"):
        PROTOCOLS["sysu_mm01"](*arrays, **official)
    with pytest.raises(UserError, match="trials: 11"):
        PROTOCOLS["sysu_mm01"](*arrays, **official, permutations=permutations, trials=11)
    with pytest.raises(UserError, match="shots is 0"):
        PROTOCOLS["sysu_mm01"](*arrays, shots=(0,))
    with pytest.raises(UserError, match="no trials"):
        PROTOCOLS["sysu_mm01"](*arrays, trials=0)
    with pytest.raises(UserError, match="no image for the gallery"):
        PROTOCOLS["sysu_mm01"](*tree(cameras=(3, 4, 5))[1:], modes=("indoor",))
    with pytest.raises(UserError, match=r"identity 6, camera 1: the test set has \d+ images, rand_perm_cam.mat lists"):
        PROTOCOLS["sysu_mm01"](*tree(shift=1)[1:], **official, permutations=permutations)
    with pytest.raises(UserError, match="identity 10, camera 1: .* lists 0"):
        PROTOCOLS["sysu_mm01"](*tree(missing=())[1:], **official, permutations=permutations)


def test_permutations_from_file_and_damaged_files(tmp_path):
    _, identities, cameras, _ = tree()
    outer, plain = cells(identities, cameras)
    path = tmp_path / "rand_perm_cam.mat"
    scipy.io.savemat(path, {"rand_perm_cam": outer})
    permutations = load_permutations(path)
    assert sorted(permutations) == [1, 2, 3, 4, 5, 6]
    for (camera, number), rows in plain.items():
        if rows.size:
            np.testing.assert_array_equal(permutations[camera][number], rows.astype(int) - 1)
        else:
            assert number not in permutations[camera]

    broken = tmp_path / "broken.mat"
    for compressed in (False, True):
        scipy.io.savemat(path, {"rand_perm_cam": outer}, do_compression=compressed)
        content = path.read_bytes()
        for length in (0, 10, 127, 128, 200, len(content) // 2, len(content) - 1):
            broken.write_bytes(content[:length])
            with pytest.raises(UserError, match="broken.mat: .*copy it again"):
                load_permutations(broken)
    with pytest.raises(UserError, match="absent.mat"):
        load_permutations(tmp_path / "absent.mat")
    scipy.io.savemat(broken, {"other": outer})
    with pytest.raises(UserError, match="no variable 'rand_perm_cam'"):
        load_permutations(broken)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda outer: outer[:5], "5 cells"),
        (lambda outer: np.zeros((6, 1)), "6 cells of float64"),
        (lambda outer: replaced(outer, 1, np.zeros((10, 3))), "camera 2 is not a list of cells"),
        (lambda outer: replaced(outer, 1, 9, np.ones((9, 4), np.uint8)), r"camera 2, identity 10 has shape \(9, 4\)"),
        (lambda outer: replaced(outer, 0, 5, np.ones((10, 4), np.uint8)), "camera 1, identity 6: a row is not"),
    ],
)
def test_wrongly_shaped_permutations(tmp_path, damage, message):
    outer = damage(cells(*tree()[1:3])[0])
    with pytest.raises(ValueError, match=message):
        parse_permutations(outer)
    scipy.io.savemat(tmp_path / "lists.mat", {"rand_perm_cam": outer})
    with pytest.raises(UserError, match=f"lists.mat: .*{message}"):
        load_permutations(tmp_path / "lists.mat")


def replaced(outer, camera, *rest):
    *number, value = rest
    if number:
        outer[camera, 0][number[0], 0] = value
    else:
        outer[camera, 0] = value
    return outer


def test_seeded_gallery_multi_shot():
    _, identities, cameras, _ = tree()
    positions = np.flatnonzero(np.isin(cameras, (1, 2)))

    def draw(seed, shots):
        return seeded_gallery(identities, cameras, positions, camera_order=(1, 2), shots=shots, seed=seed)

    gallery = draw(0, 10)
    np.testing.assert_array_equal(gallery, draw(0, 10))
    assert not np.array_equal(gallery, draw(1, 10))
    _, counts = np.unique(np.stack([identities, cameras])[:, gallery], axis=1, return_counts=True)
    assert counts.tolist() == [10] * 6 and np.isin(gallery, positions).all()  # 4 identities x 2 cameras, 2 missing
    np.testing.assert_array_equal(draw(0, 99), positions)


def test_regdb_searches_everything_both_ways():
    modalities = np.array([0] * 6 + [1] * 6)
    identities, cameras = np.tile(np.arange(3).repeat(2), 2), modalities + 1
    there, back = PROTOCOLS["regdb"](identities, cameras, modalities)
    assert [there.direction, back.direction] == ["visible->infrared", "infrared->visible"]
    assert there.rank_unit == back.rank_unit == "image" and there.excluded is None
    for protocol, queries in ((there, range(6)), (back, range(6, 12))):
        (trial,) = protocol.trials
        assert trial.queries.tolist() == list(queries)
        assert trial.gallery.tolist() == [i for i in range(12) if i not in queries]


@pytest.mark.parametrize("name, options", [("llcm", {}), ("folder", {}), ("synthetic", {"exclude_same_camera": True})])
def test_single_shot_galleries_both_ways(name, options):
    # Cameras that take both modalities; identity 10 is missing in camera 1.
    _, identities, cameras, _ = tree()
    modalities = np.arange(identities.size) % 2
    listed = PROTOCOLS[name](identities, cameras, modalities, **options)
    assert [p.direction for p in listed] == ["visible->infrared", "infrared->visible"]
    for protocol, query_modality in zip(listed, (VISIBLE, INFRARED), strict=True):
        assert (len(protocol.trials), protocol.shots, protocol.rank_unit) == (10, 1, "identity")
        assert (protocol.excluded is same_identity_and_camera) == (name != "folder")
        assert len({trial.gallery.tobytes() for trial in protocol.trials}) == 10
        state = random.getstate()
        for seed, trial in enumerate(protocol.trials):
            assert trial.queries.tolist() == [i for i, m in enumerate(modalities) if m == query_modality]
            random.seed(seed)
            drawn = []
            for identity in range(len(NUMBERS)):
                for camera in range(1, 7):
                    images = np.flatnonzero(
                        (identities == identity) & (cameras == camera) & (modalities != query_modality)
                    )
                    drawn += [random.choice(images.tolist())] if images.size else []
            assert trial.gallery.tolist() == sorted(drawn)
        random.setstate(state)


def test_drawn_queries_of_llcm_are_the_swapped_search_of_its_test_script():
    _, identities, cameras, _ = tree()
    modalities = np.arange(identities.size) % 2
    there, _, swapped = PROTOCOLS["llcm"](identities, cameras, modalities, drawn_queries=True)
    assert (swapped.direction, swapped.mode, swapped.shots) == ("infrared->visible", "drawn queries", None)
    # By the script's words: distances = gallery features x query features, evaluated with the roles exchanged.
    rng = np.random.default_rng(0)
    distances = rng.normal(size=(identities.size, identities.size))
    distances += distances.T
    row = evaluate_protocol(lambda q, g: distances[np.ix_(q, g)], identities, cameras, swapped)
    for trial, precision, rank1 in zip(there.trials, row["mAP"]["trials"], row["rank1"]["trials"], strict=True):
        cmc, expected, *_ = transcription(
            distances[np.ix_(trial.queries, trial.gallery)].T.tolist(),
            identities[trial.gallery],
            identities[trial.queries],
            same_identity_and_camera(*(a[p] for p in (trial.gallery, trial.queries) for a in (identities, cameras))),
            "identity",
        )
        np.testing.assert_allclose([precision, rank1], [expected, cmc[0]], atol=1e-9)


def test_whole_gallery_is_one_trial():
    _, *arrays = tree()
    for protocol in PROTOCOLS["folder"](*arrays, shots=(0,)):
        (trial,) = protocol.trials
        assert np.sort(np.concatenate([trial.queries, trial.gallery])).tolist() == list(range(arrays[0].size))
        assert protocol.shots is None


def test_same_identity_and_camera():
    excluded = same_identity_and_camera(np.array([0, 1]), np.array([1, 2]), np.array([0, 0, 1]), np.array([1, 2, 2]))
    assert excluded.tolist() == [[True, False, False], [False, False, True]]


def test_folder_without_one_modality_and_unordered_gallery():
    _, identities, cameras, modalities = tree()
    with pytest.raises(UserError, match="no image for the gallery"):
        PROTOCOLS["folder"](identities, cameras, np.zeros_like(modalities))
    for gallery in ([3, 1], [1, 1]):
        with pytest.raises(ValueError, match="ascending"):
            Trial(np.array([0]), np.array(gallery))


def test_official_lists_give_the_published_sizes_and_baselines(reference_data):
    """Rank-1, 10 and 20 and mAP (%) of random distances over the ten official galleries."""
    folder = reference_data / "sysu_mm01"
    numbers = [int(number) for number in (folder / "test_id.txt").read_text().split(",")]
    permutations = load_permutations(folder / "rand_perm_cam.mat")
    images = np.array(
        [
            (rank, camera)
            for camera in range(1, 7)
            for rank, number in enumerate(numbers)
            if number in permutations[camera]
            for _ in range(permutations[camera][number].shape[1])
        ]
    )
    identities, cameras = images.T
    modalities = np.isin(cameras, (3, 6)).astype(int)
    assert [np.sum(modalities == m) for m in (VISIBLE, INFRARED)] == [6775, 3803]

    def protocols(shots, trials):
        return PROTOCOLS["sysu_mm01"](
            identities,
            cameras,
            modalities,
            galleries=("official",),
            shots=(shots,),
            trials=trials,
            permutations=permutations,
            identity_numbers=numbers,
        )

    table = np.random.default_rng(0).random((3803, 6775), np.float32)

    def distances(queries, gallery):
        return table[np.ix_(np.searchsorted(infrared, queries), np.searchsorted(visible, gallery))]

    infrared, visible = np.flatnonzero(modalities == INFRARED), np.flatnonzero(modalities == VISIBLE)
    baselines = {
        ("all", 1): (3803, 301, 1.08, 10.7, 21.3, 2.97),
        ("all", 10): (3803, 3010, 0.99, 10.7, 21.0, 1.32),
        ("indoor", 1): (2208, 112, 1.79, 17.9, 36.0, 6.92),
        ("indoor", 10): (2208, 1120, 1.78, 17.8, 36.5, 2.61),
    }
    for protocol in protocols(1, 10) + protocols(10, 2):
        row = evaluate_protocol(distances, identities, cameras, protocol)
        queries, gallery, *baseline = baselines[protocol.mode, protocol.shots]
        assert (row["queries"], row["gallery"]) == (queries, gallery)
        # Every identity that a query can meet is equally likely to be first, so hits are binomial over queries.
        for metric, expected in zip(("rank1", "rank10", "rank20"), baseline, strict=False):
            deviation = 100 * np.sqrt(expected / 100 * (1 - expected / 100) / queries)
            assert abs(100 * row[metric]["mean"] - expected) < 3 * deviation
        assert 100 * row["mAP"]["mean"] == pytest.approx(baseline[-1], rel=0.04)


def test_protocols_hold_their_description():
    trial = Trial(np.array([0]), np.array([1]))
    with pytest.raises(UserError, match="protocol 'own', mode 'x', a->b: no trials"):
        RetrievalProtocol("own", "x", None, "a->b", (), None, "image")
    with pytest.raises(UserError, match="no image for the queries"):
        RetrievalProtocol("own", "x", None, "a->b", (trial, Trial(np.zeros(0, int), np.array([1]))), None, "image")
