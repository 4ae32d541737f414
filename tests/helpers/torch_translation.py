"""UNIT's encoders and generators and PatchGAN's discriminators in plain PyTorch, on parameters of the Flax modules.

Arrays are [N, H, W, C] as outside; parameters are numpy arrays under the names of the modules.
"""

import numpy as np


def tensors(tree, torch):
    """Numpy arrays as tensors that gather gradients."""
    if isinstance(tree, dict):
        return {name: tensors(leaf, torch) for name, leaf in tree.items()}
    return torch.from_numpy(np.array(tree)).requires_grad_()


def convolved(x, params, torch, stride=1, padding=0):
    weight, bias = params["kernel"].permute(3, 2, 0, 1), params.get("bias")
    return torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride, padding).permute(0, 2, 3, 1)


def transposed(x, params, torch):
    weight = params["kernel"].flip(0, 1).permute(2, 3, 0, 1)
    y = torch.nn.functional.conv_transpose2d(x.permute(0, 3, 1, 2), weight, None, 2, 1)
    return y.permute(0, 2, 3, 1)


def normalized(x, params=None):
    centered = x - x.mean((1, 2), keepdim=True)
    y = centered / (centered.square().mean((1, 2), keepdim=True) + 1e-5).sqrt()
    return y * params["scale"] + params["bias"] if params else y


def residual(x, params, torch):
    for name in sorted(params):
        block = params[name]
        y = normalized(convolved(x, block["conv1"], torch, padding=1), block["norm1"]).relu()
        x = x + normalized(convolved(y, block["conv2"], torch, padding=1), block["norm2"])
    return x


def encoded(params, x, modality, torch):
    own = params[f"encoders_{modality}"]
    x = normalized(convolved(x, own["first"], torch, padding=3), own["first_norm"]).relu()
    for name in ("down1", "down2"):
        x = normalized(convolved(x, own[name], torch, 2, 1), own[f"{name}_norm"]).relu()
    return residual(residual(x, own.get("blocks", {}), torch), params["shared_encoder"], torch)


def decoded(params, code, modality, torch):
    own = params[f"decoders_{modality}"]
    x = residual(residual(code, params["shared_decoder"], torch), own.get("blocks", {}), torch)
    for name in ("up1", "up2"):
        x = normalized(transposed(x, own[name], torch), own[f"{name}_norm"]).relu()
    return convolved(x, own["last"], torch, padding=3).tanh()


def scored(params, x, modality, torch):
    own = params[f"of_{modality}"]
    for number, name in enumerate(sorted(own["layers"])):
        x = convolved(x, own["layers"][name], torch, 2, 1)
        x = torch.nn.functional.leaky_relu(normalized(x) if number else x, 0.2)
    return convolved(x, own["score"], torch, padding=1)[..., 0]
