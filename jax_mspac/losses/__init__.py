"""Losses: pure functions of features and labels, and each as a term of a training step, with its settings.

Inputs may be bfloat16; every loss computes in float32 and returns a scalar of it. A loss between the modalities takes
visible features [n, D] and their labels int [n], then infrared ones [m, D] and int [m]: of the whole batch, or a
device's share of it and `gather`. Then the mean over the devices is the loss of the batch, in value and gradient, and
no device does more than compare its own examples with all. Each loss is finite, with a finite gradient, for any finite
input. NaN and infinity in the input come out as a non-finite loss, so that a diverged run is seen.
"""

from jax_mspac.losses.base import Examples, Loss
from jax_mspac.losses.center_cluster import CenterCluster
from jax_mspac.losses.contrastive import Contrastive
from jax_mspac.losses.cross_modality_triplet import CrossModalityTriplet
from jax_mspac.losses.discriminative_center import DiscriminativeCenter
from jax_mspac.losses.divergence import Divergence
from jax_mspac.losses.embeddings import Alignment, PairMining
from jax_mspac.losses.hetero_center import HeteroCenter
from jax_mspac.losses.hetero_center_triplet import HeteroCenterTriplet
from jax_mspac.losses.identity import Identity
from jax_mspac.losses.intra_modality import IntraModality
from jax_mspac.losses.mecen import Mecen
from jax_mspac.losses.modality_shared import ModalityShared
from jax_mspac.losses.ranking import CenterConstrained, DualConstrained
from jax_mspac.losses.separation import Separation
from jax_mspac.losses.triplet import BatchHard, WeightedRegularized
from jax_mspac.losses.views import ViewConsistency

# Name in `config.loss` -> the loss beside the identity loss.
LOSSES: dict[str, type[Loss]] = {
    "mecen": Mecen,
    "hetero_center": HeteroCenter,
    "batch_hard": BatchHard,
    "weighted_regularized": WeightedRegularized,
    "hetero_center_triplet": HeteroCenterTriplet,
    "contrastive": Contrastive,
    "dual_constrained": DualConstrained,
    "center_constrained": CenterConstrained,
    "pair_mining": PairMining,
    "alignment": Alignment,
    "cross_modality_triplet": CrossModalityTriplet,
    "intra_modality": IntraModality,
    "modality_shared": ModalityShared,
    "discriminative_center": DiscriminativeCenter,
    "view_consistency": ViewConsistency,
    "center_cluster": CenterCluster,
    "separation": Separation,
    "divergence": Divergence,
}

__all__ = ["LOSSES", "Examples", "Identity", "Loss"]
