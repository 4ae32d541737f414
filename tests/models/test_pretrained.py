"""Weights into the backbone, and its parity with a network written in plain PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jax_mspac.errors import UserError
from jax_mspac.models import pretrained, resnet, weight_files
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.models.embedder import Embedder
from jax_mspac.models.resnet import TORCH_NAMES


def images(n, height, width):
    x = np.random.default_rng(5).normal(size=(2, n, height, width, 3)).astype(np.float32)
    return {"visible": jnp.asarray(x[0]), "infrared": jnp.asarray(x[1])}


def zeros_like_init(model):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images(1, 32, 32), train=False))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def shallow_tensors(seed=0):
    """Tensors of the `shallow` network of width 4, named by hand."""
    rng = np.random.default_rng(seed)

    def norm(name, c):
        leaves = ("weight", "bias", "running_mean", "running_var")
        return {f"{name}.{leaf}": rng.normal(size=c).astype(np.float32) for leaf in leaves}

    tensors = {"conv1.weight": rng.normal(size=(4, 3, 7, 7)).astype(np.float32), **norm("bn1", 4)}
    before = 4
    for k, c in enumerate((4, 8, 16, 32), start=1):
        tensors[f"layer{k}.0.conv1.weight"] = rng.normal(size=(c, before, 3, 3)).astype(np.float32)
        tensors[f"layer{k}.0.conv2.weight"] = rng.normal(size=(c, c, 3, 3)).astype(np.float32)
        tensors |= norm(f"layer{k}.0.bn1", c) | norm(f"layer{k}.0.bn2", c)
        if k > 1:
            tensors[f"layer{k}.0.downsample.0.weight"] = rng.normal(size=(c, before, 1, 1)).astype(np.float32)
            tensors |= norm(f"layer{k}.0.downsample.1", c)
        before = c
    return tensors


@pytest.fixture
def shallow(monkeypatch):
    """A model small enough to name every tensor by hand, and its variables."""
    monkeypatch.setitem(BACKBONES, "shallow", resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)))
    model = Embedder(backbone="shallow", width=4, parts=(), shared_from=2)
    return model, zeros_like_init(model)


def test_every_tensor_reaches_its_leaf_in_both_modalities(shallow):
    _, variables = shallow
    tensors = shallow_tensors()
    ignored = {"fc.weight": np.ones((9, 9)), "fc.bias": np.ones(9), "layer1.0.bn1.num_batches_tracked": np.array(3)}
    loaded = pretrained.load_into(variables, {**tensors, **ignored}, TORCH_NAMES, source="w")
    params, statistics = loaded["params"]["backbone"], loaded["batch_stats"]["backbone"]
    for modality in ("visible", "infrared"):
        np.testing.assert_array_equal(params[modality]["conv1"]["kernel"][1, 2, 0], tensors["conv1.weight"][:, 0, 1, 2])
        np.testing.assert_array_equal(params[modality]["layer1_0"]["bn2"]["scale"], tensors["layer1.0.bn2.weight"])
        np.testing.assert_array_equal(statistics[modality]["bn1"]["mean"], tensors["bn1.running_mean"])
    shared, name = params["shared"], "layer3.0.downsample.0.weight"
    np.testing.assert_array_equal(shared["layer3_0"]["downsample_0"]["kernel"][0, 0], tensors[name][:, :, 0, 0].T)
    name = "layer4.0.downsample.1.running_var"
    np.testing.assert_array_equal(statistics["shared"]["layer4_0"]["downsample_1"]["var"], tensors[name])
    # Zeros before, so a leaf that was forgotten still is zero.
    assert all(np.any(leaf) for leaf in jax.tree.leaves((params, statistics)))
    # What is not in the backbone is as before, and the argument too.
    assert not np.any(loaded["params"]["neck"]["scale"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("target", [0, 1, 5])
@pytest.mark.parametrize("origin", [0, 2])
def test_the_backbone_of_a_run_reaches_another_however_they_share_it(shallow, origin, target):
    def filled(model):
        leaves, structure = jax.tree.flatten(zeros_like_init(model))
        return structure.unflatten([leaf + 1 + number for number, leaf in enumerate(leaves)])

    given = filled(shallow[0].clone(shared_from=origin))
    tensors = pretrained.tensors_of(given, TORCH_NAMES, source="run")
    loaded = pretrained.load_into(
        zeros_like_init(shallow[0].clone(shared_from=target)), tensors, TORCH_NAMES, source="run"
    )
    for kind in ("params", "batch_stats"):
        before, after = given[kind]["backbone"], loaded[kind]["backbone"]
        for group, stages in after.items():
            for name, leaves in stages.items():
                own = group if name in before.get(group, {}) else "shared" if name in before["shared"] else "visible"
                jax.tree.map(np.testing.assert_array_equal, leaves, before[own][name])
        assert sum(len(stages) for stages in after.values()) >= 5
    assert not np.any(loaded["params"]["neck"]["scale"])


def test_a_run_without_a_network_is_named():
    with pytest.raises(UserError, match="^runs/hog: that run has no network"):
        pretrained.tensors_of({"params": {"metric": {"w": np.ones(3)}}}, TORCH_NAMES, source="runs/hog")


def test_loaded_leaves_share_no_buffer(shallow):
    _, variables = shallow
    loaded = pretrained.load_into(variables, shallow_tensors(), TORCH_NAMES, source="w")
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(loaded)]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_other_floating_types_become_float32(shallow, dtype):
    _, variables = shallow
    tensors = {name: value.astype(dtype) for name, value in shallow_tensors().items()}
    loaded = pretrained.load_into(variables, tensors, TORCH_NAMES, source="w")
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype("float32")}
    bias = loaded["params"]["backbone"]["visible"]["bn1"]["bias"]
    np.testing.assert_array_equal(bias, tensors["bn1.bias"].astype(np.float32))


def test_all_that_does_not_fit_is_listed_at_once(shallow):
    _, variables = shallow
    tensors = shallow_tensors()
    del tensors["conv1.weight"], tensors["layer2.0.bn1.running_var"]
    tensors["layer1.0.conv1.weight"] = tensors["layer1.0.conv1.weight"][:2]
    tensors["bn1.weight"] = np.float32([1, np.nan, 1, 1])
    tensors["bn1.bias"] = np.arange(4)
    tensors |= {"layer9.weight": np.ones(1), "fcx.weight": np.ones(1), "fc.weight": np.ones(1)}
    with pytest.raises(UserError) as caught:
        pretrained.load_into(variables, tensors, TORCH_NAMES, source="some/w.npz")
    head, *listing = str(caught.value).splitlines()
    assert head.startswith("some/w.npz: ")
    problems = dict(line.strip().split(": ", 1) for line in listing)
    assert len(problems) == len(listing) == 7
    assert problems["conv1.weight"] == problems["layer2.0.bn1.running_var"] == "missing"
    assert problems["layer9.weight"] == problems["fcx.weight"] == "unexpected"
    assert "(2, 4, 3, 3)" in problems["layer1.0.conv1.weight"] and "(4, 4, 3, 3)" in problems["layer1.0.conv1.weight"]
    assert "not finite" in problems["bn1.weight"] and "not finite" in problems["bn1.bias"]


def torch_resnet(depths, bottleneck, last_stride, width):
    """An independent network with torchvision's structure and names, without its classifier."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before, c, stride):
            super().__init__()
            after = 4 * c if bottleneck else c
            shapes = [(1, before, c, 1), (3, c, c, stride), (1, c, after, 1)]
            if not bottleneck:
                shapes = [(3, before, c, stride), (3, c, c, 1)]
            self.count = len(shapes)
            for i, (size, a, b, s) in enumerate(shapes, start=1):
                self.add_module(f"conv{i}", nn.Conv2d(a, b, size, s, size // 2, bias=False))
                self.add_module(f"bn{i}", nn.BatchNorm2d(b))
            self.downsample = nn.Identity()
            if stride != 1 or before != after:
                conv = nn.Conv2d(before, after, 1, stride, bias=False)
                self.downsample = nn.Sequential(conv, nn.BatchNorm2d(after))

        def forward(self, x):
            y = x
            for i in range(1, self.count + 1):
                y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
                y = y.relu() if i < self.count else y
            return (y + self.downsample(x)).relu()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            before = width
            for k, (depth, stride) in enumerate(zip(depths, (1, 2, 2, last_stride), strict=True)):
                blocks = []
                for i in range(depth):
                    blocks.append(Block(before, width * 2**k, stride if i == 0 else 1))
                    before = width * 2**k * (4 if bottleneck else 1)
                self.add_module(f"layer{k + 1}", nn.Sequential(*blocks))

        def forward(self, x):
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    return Net()


def assert_same_map(actual, expected):
    expected = expected.detach().numpy().transpose(0, 2, 3, 1)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("architecture", "last_stride", "suffix"),
    [
        ("resnet18", 1, ".pth"),
        ("resnet18", 2, ".safetensors"),
        ("resnet50", 1, ".safetensors"),
        ("resnet50", 2, ".pth"),
    ],
)
def test_backbone_agrees_with_torch(tmp_path, architecture, last_stride, suffix):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    depths, bottleneck = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}[architecture]
    net = torch_resnet(depths, bottleneck, last_stride, width=16)
    for name, value in net.state_dict().items():
        if value.ndim == 1:  # normalization: scales and variances about 1, the rest about 0
            around = 1.0 if name.endswith(("weight", "var")) else 0.0
            value.copy_(around + 0.4 * (torch.rand_like(value) - 0.5))
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(net.state_dict(), path)
    else:
        save_file({name: value.numpy() for name, value in net.state_dict().items()}, path)

    model = BACKBONES[architecture].build({"width": 16, "last_stride": last_stride, "shared_from": 1})
    variables = {c: {"backbone": v} for c, v in zeros_like_init(model).items()}
    variables = pretrained.load_into(variables, weight_files.load_tensors(path), TORCH_NAMES, source=str(path))
    variables = {c: v["backbone"] for c, v in variables.items()}
    # Odd sizes on purpose. One modality's images: the torch network has one stem.
    x = images(3, 85, 43)["visible"]
    x_torch = torch.from_numpy(np.array(x)).permute(0, 3, 1, 2)

    with torch.no_grad():
        expected = net.eval()(x_torch)
    assert_same_map(jax.jit(lambda v, x: model.apply(v, {"infrared": x}, train=False))(variables, x), expected)

    apply = jax.jit(lambda v, x: model.apply(v, {"visible": x}, train=True, mutable=["batch_stats"]))
    out, updates = apply(variables, x)
    with torch.no_grad():
        assert_same_map(out, net.train()(x_torch))
    state = net.state_dict()
    np.testing.assert_allclose(updates["batch_stats"]["visible"]["bn1"]["mean"], state["bn1.running_mean"], atol=1e-5)
    last = updates["batch_stats"]["shared"][f"layer4_{depths[3] - 1}"]
    name = f"layer4.{depths[3] - 1}.bn2"
    np.testing.assert_allclose(last["bn2"]["mean"], state[f"{name}.running_mean"], atol=1e-4)
    # torch's running variance is the unbiased one; momentum 0.1 of the batch's share.
    n = out.shape[0] * out.shape[1] * out.shape[2]
    before = variables["batch_stats"]["shared"][f"layer4_{depths[3] - 1}"]["bn2"]["var"]
    unbiased = 0.9 * before + (last["bn2"]["var"] - 0.9 * before) * n / (n - 1)
    np.testing.assert_allclose(unbiased, state[f"{name}.running_var"], rtol=1e-3)


def test_published_resnet18_weights_load_and_agree_with_torch(reference_data):
    path = reference_data / "weights" / "resnet18_imagenet.safetensors"
    tensors = weight_files.load_tensors(weight_files.resolve(str(path)))
    model = Embedder(backbone="resnet18", parts=())
    variables = pretrained.load_into(zeros_like_init(model), tensors, TORCH_NAMES, source=str(path))
    params = variables["params"]["backbone"]
    np.testing.assert_array_equal(params["visible"]["conv1"]["kernel"], params["infrared"]["conv1"]["kernel"])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(params))

    torch = pytest.importorskip("torch")
    net = torch_resnet((2, 2, 2, 2), False, 1, width=64).eval()
    state = {name: torch.from_numpy(value) for name, value in tensors.items() if not name.endswith("tracked")}
    assert not net.load_state_dict(state, strict=False).unexpected_keys
    x = images(2, 64, 32)
    out = jax.jit(lambda v, x: model.apply(v, x, train=False)["before_neck"])(variables, x)
    with torch.no_grad():
        both = torch.from_numpy(np.concatenate(list(x.values()))).permute(0, 3, 1, 2)
        expected = net(both).mean(dim=(2, 3)).numpy()
    np.testing.assert_allclose(out[:, 0], expected, atol=1e-4 * np.abs(expected).max())
