"""The backbones that there are; a further one is a file and a row here."""

from jax_mspac.models import resnet
from jax_mspac.models.backbone import Backbone

BACKBONES: dict[str, Backbone] = {
    "resnet10": resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)),
    "resnet18": resnet.backbone(resnet.BasicBlock, (2, 2, 2, 2)),
    "resnet34": resnet.backbone(resnet.BasicBlock, (3, 4, 6, 3)),
    "resnet50": resnet.backbone(resnet.Bottleneck, (3, 4, 6, 3)),
}
