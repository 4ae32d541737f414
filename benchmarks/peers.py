"""MSPAC-MeCen in PyTorch, from the same definition: the talk slides of the paper (arXiv 2012.06843) and our readings.

The peer that the training step and the embedding are measured beside, and a second implementation for their tests. It
is what a PyTorch user would write: torchvision's structure and names, NCHW, `torch.optim.SGD`.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from jax_mspac.modalities import MODALITIES
from jax_mspac.runtime.fields import ConfigDict

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Leaf of a Flax module -> name in a torch module.
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, features, 3, stride), nn.BatchNorm2d(features)
        self.conv2, self.bn2 = _conv(features, features, 3), nn.BatchNorm2d(features)
        self.downsample = _downsample(inputs, features, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, features, 1), nn.BatchNorm2d(features)
        self.conv2, self.bn2 = _conv(features, features, 3, stride), nn.BatchNorm2d(features)
        self.conv3, self.bn3 = _conv(features, 4 * features, 1), nn.BatchNorm2d(4 * features)
        self.downsample = _downsample(inputs, 4 * features, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if inputs == outputs and stride == 1:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


ARCHITECTURES = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class Stem(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(3, width, 7, 2), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)


class Backbone(nn.ModuleDict):
    """A stem per modality and shared layers 1 to 4, the last of stride 1."""

    def __init__(self, architecture: str, width: int):
        block, depths = ARCHITECTURES[architecture]
        layers, inputs = {}, width
        for i, depth in enumerate(depths):
            features, stride = width * 2**i, (1, 2, 2, 1)[i]
            blocks = []
            for j in range(depth):
                blocks.append(block(inputs, features, stride if j == 0 else 1))
                inputs = features * block.expansion
            layers[f"layer{i + 1}"] = nn.Sequential(*blocks)
        super().__init__({modality: Stem(width) for modality in MODALITIES} | {"shared": nn.ModuleDict(layers)})
        self.channels = inputs

    def forward(self, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
        x = torch.cat([self[modality](x) for modality, x in images.items()])
        for layer in self["shared"].values():
            x = layer(x)
        return x


class PartAttention(nn.Module):
    """Channel gate, then spatial gate; x (1 + gates)."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.channel = nn.Linear(channels, channels)
        self.spatial = _conv(2, 1, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((2, 3), dtype=torch.float32) + x.amax((2, 3))
        gated = x * torch.sigmoid(self.channel(pooled)).to(x.dtype)[:, :, None, None]
        pooled = torch.cat([gated.mean(1, keepdim=True, dtype=torch.float32), gated.amax(1, keepdim=True)], dim=1)
        return x + gated * torch.sigmoid(self.spatial(pooled)).to(x.dtype)


class Cascade(nn.ModuleDict):
    """Part attention on ever larger stripes."""

    def __init__(self, parts: tuple[int, ...], channels: int, kernel: int):
        names = [f"level{level}_part{i}" for level, n in enumerate(parts) for i in range(n)]
        super().__init__({name: PartAttention(channels, kernel) for name in names})
        self.parts = parts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for level, n in enumerate(self.parts):
            stripes = [self[f"level{level}_part{i}"](stripe) for i, stripe in enumerate(x.chunk(n, dim=2))]
            x = torch.cat(stripes, dim=2)
        return x


class Network(nn.Module):
    """Embedder, classifier and centers. Calling it gives the loss of a batch.

    Args:
      config: of a run of "mspac" with a stem per modality, last stride 1, attention form "mask", average pooling, the
        identity loss on the global feature after the neck, and centers that are normalized where they are used.
      num_identities: classes, and centers.
    """

    def __init__(self, config: ConfigDict, *, num_identities: int):
        super().__init__()
        model = config.model
        self.backbone = Backbone(model.backbone, model.width)
        dim = self.backbone.channels
        self.attention = Cascade(tuple(model.parts), dim, model.attention_kernel)
        self.neck = nn.BatchNorm1d(dim)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(dim, num_identities, bias=False)
        self.centers = nn.Parameter(torch.randn(num_identities, dim))
        self.register_buffer("mean", 255 * torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD), persistent=False)
        self.settings = config.loss

    def embed(self, images: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features before and after the neck, float32 [N, D], of uint8 images [n, H, W, 3] per modality.

        The images are taken as NHWC, and run through the network in the memory format of its weights.
        """
        x = self.backbone({modality: self._normalized(x) for modality, x in images.items()})
        features = self.attention(x).mean((2, 3), dtype=torch.float32)
        return features, self.neck(features)

    def forward(self, images: Mapping[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Identity loss + weight * MeCen; labels int64 [N], visible images' before infrared ones'."""
        features = dict(zip(("before_neck", "after_neck"), self.embed(images), strict=True))
        identity = F.cross_entropy(
            self.classifier(features["after_neck"]), labels, label_smoothing=self.settings.label_smoothing
        )
        return identity + self.settings.mecen.weight * mecen(
            features[self.settings.mecen.feature], self.centers, labels, self.settings.mecen
        )

    def _normalized(self, images: torch.Tensor) -> torch.Tensor:
        x = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        weight = self.backbone[MODALITIES[0]].conv1.weight
        channels_last = weight.is_contiguous(memory_format=torch.channels_last)
        return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def mecen(features: torch.Tensor, centers: torch.Tensor, labels: torch.Tensor, settings: ConfigDict) -> torch.Tensor:
    """The marginal exponential center loss of unit features and unit centers; settings are `config.loss.mecen`."""
    distance = (F.normalize(features) - F.normalize(centers[labels])).square().sum(1)
    half = 0.5 * ((distance - settings.margin).clamp(min=0) if settings.use_margin else distance)
    if settings.reduction != "per_sample":
        half = half.sum() if settings.reduction == "sum" else half.mean()
    if settings.use_exp:
        # Above an exponent of 2, its tangent.
        half = half.clamp(max=2).expm1() + np.exp(2.0) * (half - 2).clamp(min=0)
    return half.mean()


def sgd(network: Network, config: ConfigDict) -> torch.optim.SGD:
    """The optimizer of `config`: groups by learning rate, and no decay of norms and biases."""
    recipe = config.optimizer
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factors = {"backbone": recipe.backbone_factor, "centers": recipe.centers_factor}
            factor = factors.get(name.partition(".")[0], 1.0)
            decay = recipe.weight_decay if parameter.ndim > 1 or recipe.decay_norms_and_biases else 0.0
            groups.setdefault((recipe.learning_rate * factor, decay), []).append(parameter)
    return torch.optim.SGD(
        [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()],
        momentum=recipe.momentum,
        nesterov=True,
        fused=True,
    )


def load(network: Network, weights: Mapping[str, Any]) -> None:
    """Copies our weights into the network; all of them have a place, and each place gets some.

    Args:
      network: of the same sizes.
      weights: "params" and "batch_stats" of an `Embedder` and "heads", trees of arrays.
    """
    given = tensors(weights["params"], weights["heads"]) | tensors(weights["batch_stats"], {})
    given["neck.bias"] = torch.zeros_like(network.neck.bias)
    missing, unexpected = network.load_state_dict(given, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"the networks differ: without weights {missing}, without a place {unexpected}")


def tensors(embedder: Mapping[str, Any], heads: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Trees of arrays, such as parameters or gradients, under the names and in the layout of a `Network`."""
    named = {_torch_name(path): _torch_tensor(leaf) for path, leaf in _leaves(embedder)}
    if heads:
        named["classifier.weight"] = _torch_tensor(heads["classifier"][0])
        named["centers"] = torch.tensor(np.asarray(heads["mecen"]["centers"]))
    return named


def _torch_name(path: tuple[str, ...]) -> str:
    """("backbone", "shared", "layer1_0", "conv1", "kernel") is backbone.shared.layer1.0.conv1.weight."""
    *modules, leaf = path
    return ".".join([*(re.sub(r"_(\d+)$", r".\1", module) for module in modules), LEAVES[leaf]])


def _torch_tensor(leaf: np.ndarray) -> torch.Tensor:
    """HWIO kernels become OIHW, and [in, out] matrices [out, in]."""
    leaf = np.asarray(leaf)
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim, range(leaf.ndim))
    return torch.tensor(np.ascontiguousarray(leaf.transpose(*axes)))


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], np.ndarray]]:
    if not isinstance(tree, Mapping):
        return [(path, tree)]
    return [leaf for name, inner in tree.items() for leaf in _leaves(inner, (*path, name))]
