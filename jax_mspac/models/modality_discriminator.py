"""A discriminator of modalities: what an embedder that fools it has to hide."""

import jax
from flax import linen as nn

from jax_mspac.models.layers import Linear


class ModalityDiscriminator(nn.Module):
    """Tells visible features from infrared ones: that of cmGAN (Dai et al., IJCAI 2018), 1000-500-2 with ReLU.

    Layers, starts and sizes are those of its public code (github.com/sshkhr/cmGAN at cb449c3).

    Attributes:
      hidden: units of the hidden layers.
    """

    hidden: tuple[int, ...] = (1000, 500)

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Logits float32 [N, 2], visible and infrared, of features float32 [N, D]."""
        for number, units in enumerate(self.hidden):
            features = nn.relu(Linear(units, name=f"hidden_{number}")(features))
        return Linear(2, name="logits")(features)
