"""The official gallery lists of SYSU-MM01: `rand_perm_cam.mat`, which comes with the data set."""

import numpy as np

CAMERAS = 6
TRIALS = 10

Permutations = dict[int, dict[int, np.ndarray]]


def parse_permutations(cells: np.ndarray) -> Permutations:
    """Turns the nested MATLAB cells into permutations by camera and identity number.

    Cells, object [6, 1], hold for each camera an object [identities, 1], and that for each identity number from 1 an
    integer [10, n]: ten permutations of 1..n, where n is how many images the identity has in the camera.

    Returns:
      {camera 1..6: {identity number: int64 [10, n], permutations of 0..n-1}} without the pairs that have no image.

    Raises:
      ValueError: a shape or an entry is not as stated; the text names the camera and the identity.
    """
    if cells.dtype != object or cells.size != CAMERAS:
        raise ValueError(f"it has {cells.size} cells of {cells.dtype}, expected {CAMERAS} cells, one for each camera")
    permutations: Permutations = {}
    for camera, of_camera in enumerate(cells.ravel(), start=1):
        if not isinstance(of_camera, np.ndarray) or of_camera.dtype != object:
            raise ValueError(f"camera {camera} is not a list of cells, one for each identity")
        permutations[camera] = {}
        for number, rows in enumerate(of_camera.ravel(), start=1):
            rows = np.asarray(rows)
            if rows.size == 0:
                continue
            if rows.ndim != 2 or rows.shape[0] != TRIALS:
                raise ValueError(f"camera {camera}, identity {number} has shape {rows.shape}, expected ({TRIALS}, n)")
            if not np.array_equal(np.sort(rows, axis=1), np.tile(np.arange(1, rows.shape[1] + 1), (TRIALS, 1))):
                raise ValueError(
                    f"camera {camera}, identity {number}: a row is not a permutation of 1..{rows.shape[1]}"
                )
            permutations[camera][number] = rows.astype(np.int64) - 1
    return permutations
