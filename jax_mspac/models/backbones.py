"""The backbones that there are; a further one is a file and a row here."""

from jax_mspac.models import resnet, vit
from jax_mspac.models.backbone import Backbone

BACKBONES: dict[str, Backbone] = {
    "resnet10": resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)),
    "resnet18": resnet.backbone(resnet.BasicBlock, (2, 2, 2, 2)),
    "resnet34": resnet.backbone(resnet.BasicBlock, (3, 4, 6, 3)),
    "resnet50": resnet.backbone(resnet.Bottleneck, (3, 4, 6, 3)),
    "vit_ti16": vit.backbone(depth=12, heads=3),
    "vit_s16": vit.backbone(depth=12, heads=6),
    "vit_b16": vit.backbone(depth=12, heads=12),
}
