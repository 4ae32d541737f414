"""What random changes of brightness and color do, for the eye: drawn people in RGB, then in infrared, one per row.

python -m jax_mspac.reporting.augmentation_sheet --out docs/images/linear_enhancement.png
python -m jax_mspac.reporting.augmentation_sheet --of tone_curves --people 2 --out docs/images/tone_curves.png
"""

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from jax_mspac.demo.appearance import sample_person
from jax_mspac.demo.cameras import CAMERAS
from jax_mspac.demo.rendering import image_rng, render
from jax_mspac.methods.augmentation import MEAN, STD, Augmentation, augment
from jax_mspac.modalities import MODALITIES

# Of each sheet the columns behind the image itself: how many, and what is on in them.
SHEETS: dict[str, tuple[tuple[int, dict[str, Any]], ...]] = {
    # Moderate, radical, both and erasing by chance.
    "linear_enhancement": (
        (3, {"moderate_enhancement": 1.0}),
        (4, {"radical_enhancement": 1.0}),
        (3, {"moderate_enhancement": 0.5, "radical_enhancement": 0.5, "erasing": 0.5}),
    ),
    # Rising, falling and free curves, and such with regions.
    "tone_curves": (
        (2, {"tone_curves": 1.0, "tone_monotone": 1.0, "tone_inversion": 0.0}),
        (2, {"tone_curves": 1.0, "tone_monotone": 1.0, "tone_inversion": 1.0}),
        (3, {"tone_curves": 1.0, "tone_monotone": 0.0}),
        (3, {"tone_curves": 1.0, "tone_regions": 2}),
    ),
}
_augment = jax.jit(augment, static_argnames=("modality", "augmentation"))


def augmentation_sheet(
    *,
    of: str = "linear_enhancement",
    people: int = 4,
    seed: int = 0,
    height: int = 96,
    width: int = 48,
    gap: int = 2,
) -> np.ndarray:
    """Each row is an image as it is, and as the columns of a sheet of `SHEETS` change it.

    Returns:
      uint8 [rows, columns, 3].
    """
    rows = [row for modality in MODALITIES for row in _rows(SHEETS[of], modality, people, seed, height, width)]
    framed = np.pad(np.stack(rows), ((0, 0), (0, 0), (gap, 0), (gap, 0), (0, 0)), constant_values=255)
    sheet = framed.swapaxes(1, 2).reshape(len(rows) * (height + gap), -1, 3)
    return np.pad(sheet, ((0, gap), (0, gap), (0, 0)), constant_values=255)


def _rows(
    shown: Sequence[tuple[int, dict[str, Any]]], modality: str, people: int, seed: int, height: int, width: int
) -> np.ndarray:
    """uint8 [people, columns, height, width, 3]."""
    camera = next(camera for camera in CAMERAS if camera.modality == modality)
    images = np.stack(
        [
            render(
                sample_person(seed, identity),
                camera,
                image_rng(seed, identity, camera.number, 0),
                height=height,
                width=width,
            )
            for identity in range(people)
        ]
    )
    columns = [images]
    for count, switches in shown:
        fields: dict[str, Any] = {"pad": 0, "flip": 0.0, "erasing": 0.0, **switches}
        augmentation = Augmentation(**fields)
        for _ in range(count):
            keys = jax.random.split(jax.random.key(len(columns)), people)
            augmented = _augment(images, keys, modality=modality, augmentation=augmentation)
            columns.append(np.clip(np.round(augmented * STD + MEAN), 0, 255).astype(np.uint8))
    return np.stack(columns, axis=1)


def main() -> None:
    """Writes the sheet, at twice its size, to a PNG file."""
    parser = argparse.ArgumentParser(description="Draw what random changes make of the demo data.")
    parser.add_argument("--out", required=True, help="PNG file to write")
    parser.add_argument("--of", choices=tuple(SHEETS), default="linear_enhancement", help="what is shown")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data set")
    parser.add_argument("--people", type=int, default=4, help="rows of each modality")
    arguments = parser.parse_args()
    # Sensor noise does not compress: fewer levels keep the file small and look the same.
    drawn = augmentation_sheet(of=arguments.of, people=arguments.people, seed=arguments.seed)
    levels = (drawn / 255.0 * 12.0).round() / 12.0 * 255.0
    sheet = Image.fromarray(levels.astype(np.uint8))
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
