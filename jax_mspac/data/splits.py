"""Which identities of a folder are trained on and which are tested on."""

import collections
from collections.abc import Collection, Iterable

import numpy as np

from jax_mspac.data import listing
from jax_mspac.data.data_set import ImageFile
from jax_mspac.errors import UserError

_MIN_IDENTITIES = 2  # of a split: with a single person there is nobody to confuse


def check_options(
    *, test_identities: str, test_fraction: float, val_fraction: float, folds: int = 0, fold: int = 0
) -> None:
    """Checks what can be checked without the files; the arguments are those of `folder.build`.

    Raises:
      UserError: an option is out of range, or two exclude each other.
    """
    drawn = 0.0 if test_identities or folds else test_fraction
    if not (0 <= test_fraction <= 1 and 0 <= val_fraction <= 1 and drawn + val_fraction <= 1):
        raise UserError(
            f"config.data.test_fraction {test_fraction}, config.data.val_fraction {val_fraction}: each must be from 0 "
            "to 1, and their sum too"
        )
    if folds < 0 or folds == 1:
        raise UserError(f"config.data.folds is {folds}; expected 0 (a random share is tested on) or 2 or more")
    if folds and test_identities:
        raise UserError(
            f"config.data.folds is {folds} and config.data.test_identities is {test_identities!r}: folds draw the test "
            "identities, so set one of the two"
        )
    if folds and fold == 0:
        raise UserError(
            f"config.data.fold is 0, which stands for all {folds} folds: a single run or set needs one of 1 to {folds}"
        )
    if fold and fold not in range(1, folds + 1):
        expected = f"1 to {folds}, or 0 for all" if folds else "0, as config.data.folds is 0"
        raise UserError(f"config.data.fold is {fold}; expected {expected}")


def split_identities(
    files: Iterable[ImageFile],
    *,
    test_names: Collection[str] | None,
    test_fraction: float,
    val_fraction: float,
    seed: int,
    folds: int = 0,
    fold: int = 0,
) -> tuple[dict[str, frozenset[str]], list[str]]:
    """Assigns every identity to a split; one with images of one modality only can be nowhere but in train.

    Args:
      files: all files.
      test_names: the test identities, or None to draw them.
      test_fraction: share drawn for test, of the identities with both modalities; unused with `folds`.
      val_fraction: share drawn for val, of the same, less `test_names` or the fold.
      seed: of the draw.
      folds: parts of nearly equal size that the identities with both modalities are drawn into, or 0.
      fold: which of them is the test split, from 1.

    Returns:
      Split -> its identities, without splits that have no share; and one line per problem.
    """
    seen = collections.defaultdict(set)
    for file in files:
        seen[file.identity].add(file.modality)
    chosen = frozenset(test_names or ())
    both = {identity for identity, modalities in seen.items() if len(modalities) == 2}
    drawn = np.random.default_rng(seed).permutation(sorted(both - chosen)).tolist()
    if folds:
        start, stop = (len(drawn) * position // folds for position in (fold - 1, fold))
        # The fold goes first, as a drawn test split does; val follows it, and so moves on with the fold.
        drawn = drawn[start:] + drawn[:start]
        num_test = stop - start
        num_test_and_val = num_test + round(val_fraction * (len(drawn) - num_test))
        test_share, train_share = 1.0, 1.0 - val_fraction
    else:
        test_share = test_fraction if test_names is None else 0.0
        num_test = round(test_share * len(drawn))
        num_test_and_val = round((test_share + val_fraction) * len(drawn))
        train_share = 1.0 - test_share - val_fraction
    shares = {
        "train": (train_share, drawn[num_test_and_val:]),
        "val": (val_fraction, drawn[num_test:num_test_and_val]),
        "test": (test_share or len(chosen), drawn[:num_test] + sorted(both & chosen)),
    }
    splits = {split: frozenset(identities) for split, (share, identities) in shares.items() if share > 1e-9}

    problems = []
    if unknown := sorted(chosen - set(seen)):
        problems.append(f"test_identities: no such folders: {', '.join(listing.shorten(unknown))}")
    if len(both) < folds * _MIN_IDENTITIES:
        problems.append(
            f"config.data.folds is {folds}, but {len(both)} identities have images of both modalities: {folds} folds "
            f"need at least {folds * _MIN_IDENTITIES}; add identities, or lower config.data.folds"
        )
    elif min(map(len, splits.values())) < _MIN_IDENTITIES:
        sizes = ", ".join(f"{len(identities)} for {split}" for split, identities in splits.items())
        problems.append(
            f"{len(both)} identities have images of both modalities; that makes {sizes}. Every split needs at least "
            f"{_MIN_IDENTITIES}: add identities, or change folds, test_fraction, val_fraction or test_identities"
        )
    if "train" in splits:
        splits["train"] |= set(seen) - both - chosen
    return splits, problems
