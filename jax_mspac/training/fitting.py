"""The end of methods that fit something to features of the training images."""

import jax

from jax_mspac.classical.projections import subset
from jax_mspac.data.image_set import ImageSet
from jax_mspac.evaluation.evaluator import compiled, embed_images
from jax_mspac.methods.base import Fitted, State
from jax_mspac.methods.metric import SOURCE

# Images that are fitted to, spread over identities and modalities: descriptors of all would not fit into memory.
MAX_IMAGES = 4000


def fitted(
    method: Fitted, state: State, image_set: ImageSet, *, image_size: tuple[int, int], batch: int, seed: int
) -> State:
    """The state, after the last step and on the host, with what is fitted to training images; alike in every process.

    The method sees images of `image_size`, (height, width) in pixels, `batch` at a time; `seed` chooses them.

    Raises:
      UserError: the images or their features do not allow the fit.
    """
    chosen = image_set.select(subset(image_set.identities, image_set.modalities, max_images=MAX_IMAGES, seed=seed))
    print(f"fitting a metric to features of {len(chosen)} training images", flush=True)
    extract = compiled(method.extract, of=method)
    features = embed_images(chosen, extract, state.variables, image_size=image_size, batch=batch)[SOURCE]
    return jax.device_get(method.fit(state, features, chosen.identities, chosen.modalities))
