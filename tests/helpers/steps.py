"""Training steps of a tiny network on random images, without data sets and files."""

import jax
import numpy as np

from helpers.trees import draw_person
from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.modalities import MODALITIES
from jax_mspac.runtime import parallel

P, K, CLASSES = 4, 2, 6


def tiny_config(**overrides):
    config = config_lib.default_config()
    config.data.height, config.data.width = 64, 32
    config.batch.identities, config.batch.visible, config.batch.infrared = P, K, K
    # A block in each stage, for the sake of compilation.
    config.model.backbone, config.model.width, config.model.parts = "resnet10", 4, (2, 1)
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
        slot = np.arange(len(label), dtype=np.int32) + number * len(label)
        samples = {"image": np.stack(people), "label": label, "slot": slot}
        batch[modality] = {name: value.reshape(devices, -1, *value.shape[1:]) for name, value in samples.items()}
    return batch


def run(config, devices, steps=1, batch=make_batch):
    """State on the host, and the metrics of each step."""
    method = methods.build(config, num_identities=CLASSES)
    used = jax.local_devices()[:devices]
    update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], used)
    state = jax.device_get(jax.jit(method.init)(jax.random.key(0, impl="rbg")))
    history = []
    for step in range(steps):
        state, metrics = update(state, parallel.shard(batch(config, devices, seed=step), used))
        history.append({name: float(value) for name, value in metrics.items()})
    return state, history
