"""Reads a prepared TFDS split into memory."""

import tensorflow_datasets as tfds

from jax_mspac.data import image_set
from jax_mspac.errors import UserError

_BATCH = 256  # examples per read: far fewer calls than one by one


def load_split(builder: tfds.core.DatasetBuilder, split: str) -> image_set.ImageSet:
    """Loads a split without decoding its images.

    Args:
      builder: a prepared builder with the features of `schema.features()`.
      split: name of a split, or several joined by "+", for example "train+val". Identities are ranked over the whole.

    Returns:
      The images and labels, sorted by path.

    Raises:
      UserError: the set has no such split.
    """
    missing = sorted(set(split.split("+")) - set(builder.info.splits))
    if missing:
        raise UserError(f"split {', '.join(missing)}: {builder.name} has only {', '.join(builder.info.splits)}")
    batches = builder.as_dataset(split=split, batch_size=_BATCH, decoders={"image": tfds.decode.SkipDecoding()})
    return image_set.from_examples(
        {
            "image": image,
            "identity": identity.decode(),
            "camera": camera,
            "modality": modality,
            "path": path.decode(),
        }
        for batch in tfds.as_numpy(batches)
        for image, identity, camera, modality, path in zip(
            batch["image"], batch["identity"], batch["camera"], batch["modality"], batch["path"], strict=True
        )
    )
