"""The PyTorch peer of the benchmarks against our network: losses, gradients, SGD steps and features."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch")
# The tensors are tiny; threads that wait for each other on a busy machine take longer than the work.
torch.set_num_threads(1)

from benchmarks import peers  # noqa: E402
from benchmarks.programs_jax import initial_state, weights  # noqa: E402
from benchmarks.workload import Workload  # noqa: E402
from jax_mspac import methods  # noqa: E402
from jax_mspac.losses.mecen import mecen  # noqa: E402
from jax_mspac.modalities import MODALITIES  # noqa: E402
from jax_mspac.runtime import parallel  # noqa: E402

CLASSES = 5


def tiny(backbone):
    return Workload(backbone=backbone, batch=6, height=64, width=32, model_width=4, parts=(2, 1))


def config_of(workload):
    """With steps that are far larger than the rounding of the parameters."""
    config = workload.config()
    config.optimizer.learning_rate = 0.01
    return config


def start(workload):
    """Our method and its state of step 0, on the host."""
    method = methods.build(config_of(workload), num_identities=CLASSES)
    return method, initial_state(method)


def peer_of(workload, state):
    """The peer with the same weights and config."""
    network = peers.Network(config_of(workload), num_identities=CLASSES)
    peers.load(network, weights(state))
    return network


def difference(ours, theirs):
    """The largest of all tensors' entries, relative to the largest entry of its tensor."""
    assert ours.keys() == theirs.keys()
    return max(float((theirs[name] - value).abs().max() / value.abs().max()) for name, value in ours.items())


def trained(network):
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def differences(workload, state, update, seed):
    """Of the gradients of a step, of the loss of the next one and of what both changed; the first losses agree."""
    network = peer_of(workload, state)
    optimizer = peers.sgd(network, config_of(workload))
    rng = np.random.default_rng(seed)
    images = {m: rng.integers(0, 256, samples["image"].shape, np.uint8) for m, samples in workload.batches().items()}
    labels = {m: rng.integers(0, CLASSES, len(images[m]), np.int32) for m in MODALITIES}
    slots = {m: np.arange(len(images[m]), dtype=np.int32) for m in MODALITIES}
    batch = {m: {"image": images[m][None], "label": labels[m][None], "slot": slots[m][None]} for m in MODALITIES}
    joined = torch.tensor(np.concatenate([labels[m] for m in MODALITIES]).astype(np.int64))
    before = {name: value.detach().clone() for name, value in trained(network).items()}
    found = []
    for step in range(2):
        state, metrics = update(state, parallel.shard(batch, jax.local_devices()[:1]))
        optimizer.zero_grad()
        loss = network({m: torch.tensor(images[m]) for m in MODALITIES}, joined)
        loss.backward()
        optimizer.step()
        if step == 0:
            assert loss.item() == pytest.approx(float(metrics["loss"]), rel=1e-5)
            # After one step the momentum is the gradient and the weight decay.
            momentum = optax.tree.get(state.training["optimizers"], "trace")
            gradients = {
                name: value.grad + (5e-4 * before[name] if value.ndim > 1 else 0)
                for name, value in trained(network).items()
            }
            found.append(difference(peers.tensors(momentum["embedder"], momentum["heads"]), gradients))
    found.append(abs(loss.item() / float(metrics["loss"]) - 1))
    params = peers.tensors(state.variables["embedder"]["params"], state.training["networks"]["heads"]["params"])
    changes = {name: value - before[name] for name, value in params.items()}
    found.append(difference(changes, {name: value.detach() - before[name] for name, value in trained(network).items()}))
    return found


@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_training_steps_are_the_same(backbone):
    workload = tiny(backbone)
    method, state = start(workload)
    update = parallel.data_parallel(lambda state, batch: method.update(state, batch)[:2], jax.local_devices()[:1])
    # Where rounding turns a ReLU on or off, gradients part by per cents. Of some batches, one has no such value.
    found = []
    for seed in range(4):
        found.append(differences(workload, state, update, seed))
        if max(found[-1]) < 1e-3:
            break
    assert max(found[-1]) < 1e-3, found


@pytest.mark.parametrize("modality", MODALITIES)
def test_features_are_the_same(modality):
    workload = tiny("resnet18")
    method, state = start(workload)
    ours = jax.jit(method.embed, static_argnums=2)(state.variables, workload.images(), modality)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        network = peer_of(workload, state).to(memory_format=memory_format).eval()
        with torch.inference_mode():
            features = network.embed({modality: torch.tensor(workload.images())})
        for name, theirs in zip(("before_neck", "after_neck"), features, strict=True):
            np.testing.assert_allclose(theirs, ours[name], atol=1e-4 * float(jnp.abs(ours[name]).max()), rtol=0)


@pytest.mark.parametrize("use_exp", [True, False])
@pytest.mark.parametrize("use_margin", [True, False])
@pytest.mark.parametrize("reduction", ["per_sample", "mean", "sum"])
def test_center_losses_are_the_same(reduction, use_margin, use_exp):
    rng = np.random.default_rng(1)
    features, centers = rng.normal(size=(8, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    labels = np.arange(8) % 3
    settings = Workload(backbone="resnet18", batch=2).config().loss.mecen
    settings.update({"reduction": reduction, "use_margin": use_margin, "use_exp": use_exp})
    theirs = peers.mecen(*map(torch.tensor, (features, centers, labels)), settings)
    switches = {"margin": settings.margin, "use_margin": use_margin, "use_exp": use_exp, "reduction": reduction}
    assert theirs.item() == pytest.approx(float(mecen(features, centers, labels, **switches)), rel=1e-5)


def test_weights_of_another_network_are_refused():
    _, state = start(tiny("resnet18"))
    del state.variables["embedder"]["params"]["attention"]["level1_part0"]
    with pytest.raises(ValueError, match="without weights .*level1_part0.channel.weight"):
        peer_of(tiny("resnet18"), state)
