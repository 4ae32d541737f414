"""The networks of AGW and the hetero-center systems in plain PyTorch, small, under the names of their public code."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

WIDTH, CLASSES, STRIPES, DIM = 4, 5, 6, 3
DEPTHS = {"resnet18": ((2, 2, 2, 2), 1), "resnet50": ((3, 4, 6, 3), 4)}


class Network(NamedTuple):
    """Shapes of the state_dict, and (tensors, images [N, 3, H, W], "visible" or "infrared") -> features at test."""

    shapes: dict[str, tuple[int, ...]]
    features: Callable[[Mapping[str, Any], Any, str], Any]


def generated(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights that differ from name to name, of sizes that keep activations in bounds."""
    tensors = {}
    for name, shape in shapes.items():
        draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        if len(shape) > 1:
            draw *= np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith("running_var"):
            draw = 1 + 0.2 * abs(draw)
        elif name.endswith("weight"):
            draw = 0.5 + 0.05 * draw
        else:
            draw *= 0.1
        tensors[name] = np.zeros((), np.int64) if name.endswith("tracked") else np.float32(draw)
    return tensors


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{leaf}": (channels,) for leaf in leaves} | {f"{name}.num_batches_tracked": ()}


def linear(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def resnet(kind: str, prefix: str, stages: range) -> dict[str, tuple[int, ...]]:
    """Of stages 0, the stem, and 1 to 4."""
    depths, expansion = DEPTHS[kind]
    shapes = {}
    if 0 in stages:
        shapes |= {"conv1.weight": (WIDTH, 3, 7, 7), **norm("bn1", WIDTH)}
    before = WIDTH
    for k, depth in enumerate(depths, start=1):
        c = WIDTH * 2 ** (k - 1)
        out = c * expansion
        for i in range(depth):
            name = f"layer{k}.{i}"
            convs = [(before, c, 1), (c, c, 3), (c, out, 1)] if expansion == 4 else [(before, c, 3), (c, c, 3)]
            of_block = {}
            for number, (given, made, size) in enumerate(convs, start=1):
                of_block |= {
                    f"{name}.conv{number}.weight": (made, given, size, size),
                    **norm(f"{name}.bn{number}", made),
                }
            if before != out:
                of_block |= {f"{name}.downsample.0.weight": (out, before, 1, 1), **norm(f"{name}.downsample.1", out)}
            before = out
            shapes |= of_block if k in stages else {}
    return {prefix + name: shape for name, shape in shapes.items()}


def batch_norm(t, name, x):
    from torch.nn import functional

    statistics = (t[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(x, *statistics)


def passed(t, prefix, x, stages, after=lambda k, i, x: x):
    """Through stages of a ResNet, with something after each block."""
    from torch.nn import functional

    def conv(name, x, stride=1):
        weight = t[f"{prefix}{name}.weight"]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def normed(name, x):
        return batch_norm(t, prefix + name, x)

    for k in stages:
        if k == 0:
            x = functional.max_pool2d(normed("bn1", conv("conv1", x, 2)).relu(), 3, 2, 1)
            continue
        i = 0
        while f"{prefix}layer{k}.{i}.conv1.weight" in t:
            name, stride = f"layer{k}.{i}", 2 if k in (2, 3) and i == 0 else 1
            y = x
            if f"{prefix}{name}.conv3.weight" in t:
                y = normed(f"{name}.bn1", conv(f"{name}.conv1", y)).relu()
                y = normed(f"{name}.bn2", conv(f"{name}.conv2", y, stride)).relu()
                y = normed(f"{name}.bn3", conv(f"{name}.conv3", y))
            else:
                y = normed(f"{name}.bn1", conv(f"{name}.conv1", y, stride)).relu()
                y = normed(f"{name}.bn2", conv(f"{name}.conv2", y))
            if f"{prefix}{name}.downsample.0.weight" in t:
                x = normed(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
            x = after(k, i, (x + y).relu())
            i += 1
    return x


def gem(x, p):
    return ((x**p).mean(dim=(-2, -1)) + 1e-12) ** (1 / p)


AGW_PREFIXES = {"visible": "visible_module.visible.", "infrared": "thermal_module.thermal."}


def agw() -> Network:
    """Three whole ResNet-50, of which parts are used, and non-local blocks with one inner channel."""
    shapes = {}
    for prefix in (*AGW_PREFIXES.values(), "base_resnet.base."):
        shapes |= resnet("resnet50", prefix, range(5))
    channels = {2: WIDTH * 8, 3: WIDTH * 16}
    for k, i in ((2, 0), (2, 1), (3, 0), (3, 1), (3, 2)):
        name, c = f"NL_{k}.{i}", channels[k]
        for inner in ("g.0", "theta", "phi"):
            shapes |= linear(f"{name}.{inner}", 1, c, 1, 1)
        shapes |= linear(f"{name}.W.0", c, 1, 1, 1) | norm(f"{name}.W.1", c)
    shapes |= norm("bottleneck", WIDTH * 32) | {"classifier.weight": (CLASSES, WIDTH * 32)}

    def features(t, x, modality):
        from torch.nn import functional

        def nonlocal_(k, i, x):
            name = f"NL_{k}.{i - k}"  # the last 2 of 4 blocks, the last 3 of 6
            if f"{name}.theta.weight" not in t:
                return x

            def mapped(inner):
                return functional.conv2d(x, t[f"{name}.{inner}.weight"], t[f"{name}.{inner}.bias"]).flatten(2)

            affinity = mapped("theta").transpose(1, 2) @ mapped("phi") / (x.shape[2] * x.shape[3])
            y = (affinity @ mapped("g.0").transpose(1, 2)).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])
            y = functional.conv2d(y, t[f"{name}.W.0.weight"], t[f"{name}.W.0.bias"])
            return x + batch_norm(t, f"{name}.W.1", y)

        x = passed(t, AGW_PREFIXES[modality], x, range(1))
        x = passed(t, "base_resnet.base.", x, range(1, 5), nonlocal_)
        return functional.normalize(batch_norm(t, "bottleneck", gem(x, 3)))

    return Network(shapes, features)


def hetero_center() -> Network:
    """Two ResNet-18 with their ImageNet classifiers; stripes are averages, and each gets unit length."""
    prefixes = {"visible": "visible_net.visible.", "infrared": "thermal_net.thermal."}
    shapes = {}
    for prefix in prefixes.values():
        shapes |= resnet("resnet18", prefix, range(5)) | linear(f"{prefix}fc", 1000, WIDTH * 8)
    for i in range(1, STRIPES + 1):
        shapes |= linear(f"feature{i}.feat_block.0", DIM, WIDTH * 8) | norm(f"feature{i}.feat_block.1", DIM)
        shapes |= linear(f"classifier{i}.classifier.1", CLASSES, DIM)

    def features(t, x, modality):
        import torch
        from torch.nn import functional

        x = passed(t, prefixes[modality], x, range(5))
        parts = []
        for i, stripe in enumerate(x.chunk(STRIPES, 2), start=1):
            name = f"feature{i}.feat_block"
            y = functional.linear(stripe.mean(dim=(2, 3)), t[f"{name}.0.weight"], t[f"{name}.0.bias"])
            parts.append(functional.normalize(batch_norm(t, f"{name}.1", y)))
        return functional.normalize(torch.cat(parts, 1))

    return Network(shapes, features)


def hetero_center_triplet() -> Network:
    """Own stem and layer 1; GeM stripes, a 1x1 convolution, normalization and ReLU for each."""
    shapes = resnet("resnet18", "base_resnet.base.", range(2, 5))
    for prefix in AGW_PREFIXES.values():
        shapes |= resnet("resnet18", prefix, range(2))
    for i in range(STRIPES):
        shapes |= linear(f"local_conv_list.{i}.0", DIM, WIDTH * 8, 1, 1) | norm(f"local_conv_list.{i}.1", DIM)
        shapes |= linear(f"fc_list.{i}", CLASSES, DIM)

    def features(t, x, modality):
        import torch
        from torch.nn import functional

        x = passed(t, AGW_PREFIXES[modality], x, range(2))
        x = passed(t, "base_resnet.base.", x, range(2, 5))
        parts = []
        for i, stripe in enumerate(x.chunk(STRIPES, 2)):
            name = f"local_conv_list.{i}"
            y = functional.conv2d(gem(stripe, 3)[..., None, None], t[f"{name}.0.weight"], t[f"{name}.0.bias"])
            parts.append(batch_norm(t, f"{name}.1", y).relu().flatten(1))
        return functional.normalize(torch.cat(parts, 1))

    return Network(shapes, features)


NETWORKS = {
    "agw": agw(),
    "caj": agw(),
    "hetero_center": hetero_center(),
    "hetero_center_triplet": hetero_center_triplet(),
}
