"""MFEN (CVPR 2026): exchanged amplitudes, experts of frequency bands, and the spectrum of a map as a second feature.

A reading of the paper's formulas; there is no public code, and docs/comparison.md lists what was chosen. Each part has
a switch of its own, and any system may have it:

- `augment.amplitude_exchange`, images with low amplitudes of an image of the other modality;
- `model.frequency_bands`, experts behind layers 2 and 3; 1 is a single one of the whole spectrum;
- `model.frequency_statistics`, amplitudes of the final map as a second part of the embedding, with
  `loss.identity_parts=mixed`, one identity loss of both parts' probabilities.
"""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SYSTEM = System(
    title="MFEN",
    build=learned.build,
    settings={
        **learned.IDENTITY_ALONE,
        "model.shared_from": 1,
        "model.frequency_bands": 4,
        "model.frequency_statistics": True,
        "model.unit_parts": True,
        "loss.identity_parts": "mixed",
        "loss.divergence.weight": 1.0,
        "loss.batch_hard.weight": 1.0,
        "loss.batch_hard.margin": 0.6,
        "loss.batch_hard.parts": "alone",
        "augment.amplitude_exchange": 0.5,
        "augment.amplitude_channel": True,
        "augment.erasing": 0.5,
    },
    images=(4, 4),
    recipe={
        **learned.SGD,
        "optimizer.learning_rate": 0.02,
        # At the whole rate a short run on photographs learned nobody.
        "optimizer.backbone_factor": 0.1,
        "optimizer.schedule": "cosine",
        # 10 of 120 epochs.
        "optimizer.warmup": 0.083,
        "augment.erasing": 0.5,
        "batch.identities": 8,
    },
)
