"""Training steps of a tiny network on random images, without data sets and files."""

import jax
import numpy as np

from helpers.shallow import TWO_STAGES
from helpers.trees import draw_person
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.modalities import MODALITIES
from jax_mspac.runtime import parallel

P, K, CLASSES = 4, 2, 6
DIMS = 8  # of the features of `tiny_config`


def tiny_config(**overrides):
    config = config_lib.default_config()
    config.data.height, config.data.width = 64, 32
    config.batch.identities, config.batch.visible, config.batch.infrared = P, K, K
    config.model.backbone, config.model.width, config.model.parts = TWO_STAGES, 4, (2, 1)
    config.train.steps = 10
    config.update_from_flattened_dict(overrides)
    return config


def make_batch(config, devices=1, seed=0):
    """Random images whose color tells the identity, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    batch = {}
    for number, modality in enumerate(MODALITIES):
        label = np.repeat(np.arange(P), K).astype(np.int32)
        noise = rng.integers(0, 60, (P * K, config.data.height, config.data.width, 3))
        samples = {
            "image": (noise + 45 * label[:, None, None, None]).astype(np.uint8),
            "label": label,
            "camera": np.ones_like(label),
            "index": np.arange(P * K, dtype=np.int32),
            "slot": np.arange(P * K, dtype=np.int32) + number * P * K,
        }
        batch[modality] = {name: value.reshape(devices, -1, *value.shape[1:]) for name, value in samples.items()}
    return batch


def drawn_batch(config, devices=1, seed=0):
    """Of drawn people, other images of the same ones for each seed."""
    size = config.data.width, config.data.height
    counts, batch = dict(zip(MODALITIES, (config.batch.visible, config.batch.infrared), strict=True)), {}
    for number, (modality, count) in enumerate(counts.items()):
        label = np.repeat(np.arange(config.batch.identities), count).astype(np.int32) % CLASSES
        people = [
            draw_person(identity, number, seed * count + i % count, infrared=number == 1, size=size)
            for i, identity in enumerate(label.tolist())
        ]
        index = np.arange(len(label), dtype=np.int32)
        samples = {
            "image": np.stack(people),
            "label": label,
            "camera": np.ones_like(label),
            "index": index,
            "slot": index + number * len(label),
        }
        batch[modality] = {name: value.reshape(devices, -1, *value.shape[1:]) for name, value in samples.items()}
    return batch


class Training:
    """Runs from one start on some devices, all with the programs of the first.

    Args:
      config: of the run.
      devices: how many.
      start: the `start` of another one whose networks are the same, which takes seconds to make.
    """

    def __init__(self, config, devices, *, start=None):
        self._config, self._used = config, jax.local_devices()[:devices]
        method = methods.build(config, num_identities=CLASSES)
        self._update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], self._used)
        self.start = start or jax.device_get(jax.jit(method.init)(jax.random.key(0, impl="rbg")))

    def run(self, steps=1, batch=make_batch):
        """State on the host, and the metrics of each step."""
        # As a step leaves it, or the second one would be compiled again.
        state, history = parallel.replicate(self.start, self._used), []
        for step in range(steps):
            shares = batch(self._config, len(self._used), seed=step)
            state, metrics = self._update(state, parallel.shard(shares, self._used))
            history.append({name: float(value) for name, value in metrics.items()})
        return state, history


def run(config, devices, steps=1, batch=make_batch):
    """As `Training.run`."""
    return Training(config, devices).run(steps, batch)
