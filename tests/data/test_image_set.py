"""The in-memory split: order, ranks and validation."""

import numpy as np
import pytest

from jax_mspac.data.image_set import from_examples


def example(path, identity="a", *, camera=1, modality=0, image=b"x"):
    return {"path": path, "identity": identity, "camera": camera, "modality": modality, "image": image}


def test_sorted_by_path_with_ranked_identities():
    image_set = from_examples(
        [
            example("c", "10", camera=3, modality=1, image=b"ends in zero\0"),
            example("a", "9", image=b"first"),
            example("b", "10", camera=2, image=b"longer than the others"),
        ]
    )
    assert image_set.paths.tolist() == ["a", "b", "c"]
    assert image_set.images.tolist() == [b"first", b"longer than the others", b"ends in zero\0"]
    assert image_set.identity_names == ("10", "9")
    assert image_set.identities.tolist() == [1, 0, 0]
    assert image_set.cameras.tolist() == [1, 2, 3]
    assert image_set.modalities.tolist() == [0, 0, 1]
    assert len(image_set) == 3 and image_set.num_identities == 2
    assert {image_set.identities.dtype, image_set.cameras.dtype, image_set.modalities.dtype} == {np.dtype(np.int32)}


def test_select_keeps_ranks():
    image_set = from_examples([example("a", "x"), example("b", "y"), example("c", "z")])
    for index in (np.array([False, True, True]), np.array([1, 2])):
        chosen = image_set.select(index)
        assert chosen.paths.tolist() == ["b", "c"]
        assert chosen.identities.tolist() == [1, 2]
        assert chosen.identity_names == ("x", "y", "z")


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "at least one image"),
        ([example("a"), example("b"), example("a")], "'a' occurs more than once"),
        ([example("a", camera=0)], "camera 0"),
        ([example("a", modality=2)], "modality"),
        ([example("a", modality=-1)], "modality"),
    ],
)
def test_impossible_examples_are_refused(examples, message):
    with pytest.raises(ValueError, match=message):
        from_examples(examples)
