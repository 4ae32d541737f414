"""A backbone for tests that compile many networks: half the stages are half the time."""

from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES

TWO_STAGES = "two_stages"
BACKBONES[TWO_STAGES] = resnet.backbone(resnet.BasicBlock, (1, 1, 0, 0))
