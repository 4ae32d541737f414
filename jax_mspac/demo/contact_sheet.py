"""Draws the demo data for the eye: one row per identity, one column per camera and image.

python -m jax_mspac.demo.contact_sheet --out docs/images/demo_contact_sheet.png
"""

import argparse
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jax_mspac.demo.appearance import sample_person
from jax_mspac.demo.cameras import CAMERAS
from jax_mspac.demo.rendering import image_rng, render


def contact_sheet(
    *,
    seed: int = 0,
    identities: Sequence[int] = tuple(range(8)),
    images_per_camera: int = 2,
    height: int = 96,
    width: int = 48,
    gap: int = 2,
) -> np.ndarray:
    """The first images of some identities, as the data set holds them; visible cameras left, infrared right.

    Returns:
      uint8 [rows, columns, 3].
    """
    columns = [(camera, index) for camera in CAMERAS for index in range(images_per_camera)]
    sheet = np.full((len(identities) * (height + gap) + gap, len(columns) * (width + gap) + gap, 3), 255, np.uint8)
    for row, identity in enumerate(identities):
        person = sample_person(seed, identity)
        for column, (camera, index) in enumerate(columns):
            rng = image_rng(seed, identity, camera.number, index)
            top, left = gap + row * (height + gap), gap + column * (width + gap)
            sheet[top : top + height, left : left + width] = render(person, camera, rng, height=height, width=width)
    return sheet


def main() -> None:
    """Writes the contact sheet, at twice its size, to a PNG file."""
    parser = argparse.ArgumentParser(description="Draw the contact sheet of the demo data.")
    parser.add_argument("--out", required=True, help="PNG file to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data set")
    arguments = parser.parse_args()
    # Sensor noise does not compress: fewer levels keep the file small and look the same.
    levels = (contact_sheet(seed=arguments.seed) / 255.0 * 12.0).round() / 12.0 * 255.0
    sheet = Image.fromarray(levels.astype(np.uint8))
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
