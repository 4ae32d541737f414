"""The small SYSU-MM01 test set of the tests of feature files."""

import numpy as np
import pytest
import scipy.io
from helpers.feature_files import contents, small_features, small_set


@pytest.fixture
def keys():
    images = small_set()
    return contents(images, small_features(images))


@pytest.fixture
def lists(tmp_path):
    """A folder whose exp folder holds lists for the small set."""
    images, rng = small_set(), np.random.default_rng(1)
    cells = np.empty((6, 1), object)
    for camera in range(1, 7):
        cells[camera - 1, 0] = np.empty((333, 1), object)
        for number in range(1, 334):
            count = np.sum((images[:, 0] == number) & (images[:, 1] == camera))
            cells[camera - 1, 0][number - 1, 0] = np.array([rng.permutation(count) + 1 for _ in range(10)], np.uint8)
    (tmp_path / "data" / "exp").mkdir(parents=True)
    scipy.io.savemat(tmp_path / "data" / "exp" / "rand_perm_cam.mat", {"rand_perm_cam": cells})
    return tmp_path / "data"
