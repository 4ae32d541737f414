"""D2RL: its modules and losses against a transcription in PyTorch, its four channels, whole runs, and bad settings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_runs, torch_translation
from helpers.steps import CLASSES, make_batch, tiny_config

from jax_mspac import config as config_lib
from jax_mspac import methods
from jax_mspac.errors import UserError
from jax_mspac.methods import augmentation
from jax_mspac.methods.d2rl import View
from jax_mspac.modalities import MODALITIES
from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES
from jax_mspac.runs.checkpoints import FOLDER, Checkpoints
from jax_mspac.runtime import parallel
from jax_mspac.training.loop import train
from jax_mspac.training.nonfinite import STATE_IS_FINITE, guarded

OTHER = {"visible": "infrared", "infrared": "visible"}
COUNTS = {"visible": 3, "infrared": 2}
HEIGHT, WIDTH = 16, 8
SMALL = {
    "method": "d2rl",
    "data.height": HEIGHT,
    "data.width": WIDTH,
    "model.parts": (),
    "model.width": 4,
    "d2rl.width": 2,
    "d2rl.blocks": 2,
    "d2rl.critic_width": 2,
    "d2rl.critic_layers": 2,
}


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    monkeypatch.setitem(BACKBONES, "resnet18", resnet.backbone(resnet.BasicBlock, (1, 0, 0, 0)))


def built(**changes):
    fields = {**SMALL, **changes}
    return methods.build(methods.configured(tiny_config(**fields), chosen=set(fields)), num_identities=CLASSES)


def drawn(shapes, seed):
    """Variables of these shapes with values of their own everywhere, of a size that keeps tanh from saturating."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(0.1, 0.2, leaf.shape).astype(np.float32), shapes)


def networks_of(method):
    state = jax.eval_shape(method.init, jax.random.key(0))
    everything = {**state.variables, **state.training["networks"]}
    return {name: drawn(everything[name], seed) for seed, name in enumerate(("translators", "discriminators"))}


def view_of(method):
    rng = np.random.default_rng(7)

    def numbers(*shape):
        return rng.normal(size=shape).astype(np.float32)

    channels, code = {"visible": 3, "infrared": 1}, (HEIGHT // 4, WIDTH // 4, 4 * method.translation.width)
    pixels = {m: np.tanh(numbers(COUNTS[m], HEIGHT, WIDTH, channels[m])) for m in MODALITIES}
    noise = {m: (numbers(COUNTS[m], *code), numbers(COUNTS[m], *code)) for m in MODALITIES}
    return View(pixels, noise, np.array([0, 1, 2, 0, 1]), {})


def transcribed(networks, view, torch):
    """The terms of both sides' losses from the formulas of docs/comparison.md, and the translations."""
    translators, critics = (networks[name]["params"] for name in ("translators", "discriminators"))
    terms = dict.fromkeys(("adversarial", "reconstruction", "kl", "cycle", "cycle_kl", "discriminators"), 0.0)
    right, translations = [], {}
    for m in MODALITIES:
        x, (first, second) = torch.from_numpy(view.pixels[m]), map(torch.from_numpy, view.noise[m])
        mean = torch_translation.encoded(translators, x, m, torch)
        made = torch_translation.decoded(translators, mean + first, OTHER[m], torch)
        mean_of_made = torch_translation.encoded(translators, made, OTHER[m], torch)
        back = torch_translation.decoded(translators, mean_of_made + second, m, torch)
        itself = torch_translation.decoded(translators, mean + first, m, torch)
        score = torch_translation.scored(critics, made, OTHER[m], torch)
        real = torch_translation.scored(critics, x, m, torch)
        terms["adversarial"] += (score - 1).square().mean()
        terms["reconstruction"] += (itself - x).abs().mean()
        terms["kl"] += mean.square().mean() / 2
        terms["cycle"] += (back - x).abs().mean()
        terms["cycle_kl"] += mean_of_made.square().mean() / 2
        terms["discriminators"] += ((real - 1).square().mean() + score.square().mean()) / 2
        right += [(real > 0.5).float().mean(), (score < 0.5).float().mean()]
        translations[m] = made
    return terms, float(sum(right)) / 4, translations


def test_losses_of_both_sides_and_the_translations_are_those_of_the_formulas():
    torch = pytest.importorskip("torch")
    method = built(**{"d2rl.joint": 0.0, "d2rl.kl": 3.0, "d2rl.cycle": 20.0})
    networks, view = networks_of(method), view_of(method)

    @jax.jit
    def both(networks, view):
        total, outcome = method.convert(networks, view, jax.random.key(0))
        return total, outcome, method.judge(networks, outcome.view, jax.random.key(0))

    total, outcome, (loss, judged) = both(networks, view)
    with torch.no_grad():
        terms, right, translations = transcribed(torch_translation.tensors(networks, torch), view, torch)
    for name in ("adversarial", "reconstruction", "kl", "cycle", "cycle_kl"):
        np.testing.assert_allclose(outcome.metrics[name], terms[name], rtol=2e-4, err_msg=name)
    weights = {"adversarial": 10, "reconstruction": 100, "kl": 3, "cycle": 20, "cycle_kl": 0.1}
    expected = sum(weight * float(terms[name]) for name, weight in weights.items())
    np.testing.assert_allclose([total, outcome.metrics["translation"]], expected, rtol=2e-4)
    np.testing.assert_allclose([loss, judged.metrics["discriminators"]], float(terms["discriminators"]), rtol=2e-4)
    np.testing.assert_allclose(judged.metrics["discriminator_accuracy"], right, atol=1e-6)
    for m in MODALITIES:
        assert np.std(translations[m].numpy()) > 0.05
        np.testing.assert_allclose(outcome.view.translated[m], translations[m].numpy(), atol=1e-4)


@pytest.mark.slow
def test_gradients_of_both_sides_are_torch_s():
    torch = pytest.importorskip("torch")
    method = built(**{"d2rl.joint": 0.0})
    networks, view = networks_of(method), view_of(method)

    def of_translators(params):
        seen = {**networks, "translators": {"params": params}}
        total, outcome = method.convert(seen, view, jax.random.key(0))
        return total, outcome.view

    def of_discriminators(params, view):
        return method.judge({**networks, "discriminators": {"params": params}}, view, jax.random.key(0))[0]

    found, handed = jax.jit(jax.grad(of_translators, has_aux=True))(networks["translators"]["params"])
    found_critics = jax.jit(jax.grad(of_discriminators))(networks["discriminators"]["params"], handed)
    leaves = torch_translation.tensors(networks, torch)
    terms, _, _ = transcribed(leaves, view, torch)
    (10 * terms["adversarial"] + 100 * terms["reconstruction"] + 0.1 * terms["kl"]).backward(retain_graph=True)
    (100 * terms["cycle"] + 0.1 * terms["cycle_kl"]).backward(retain_graph=True)
    of_made = jax.tree.map(lambda leaf: leaf.grad.numpy().copy(), leaves["translators"]["params"])
    for leaf in jax.tree.leaves(leaves["discriminators"]):
        leaf.grad = None
    terms["discriminators"].backward()
    critics = jax.tree.map(lambda leaf: leaf.grad.numpy(), leaves["discriminators"]["params"])

    def assert_close(ours, theirs):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3 * scale + 1e-4)

    jax.tree.map(assert_close, found, of_made)
    jax.tree.map(assert_close, found_critics, critics)


def test_an_image_of_either_modality_becomes_rgb_and_infrared():
    method = built()
    state = jax.jit(method.init)(jax.random.key(3, impl="rbg"))
    images = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3)).astype(np.uint8)
    gray = images @ np.array([0.299, 0.587, 0.114])

    @jax.jit
    def seen(variables, images):
        pairs = {m: method.seen(variables, augmentation.normalize(images), m) for m in MODALITIES}
        return pairs, {m: method.translate(variables, images, m) for m in MODALITIES}

    pairs, made = jax.tree.map(np.asarray, seen(state.variables, images))
    mean, std = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255

    def infrared(gray):
        return ((gray[..., None] - mean) / std) @ np.array([0.299, 0.587, 0.114])

    # Half a level is lost where the translation is rounded.
    assert {x.dtype for x in made.values()} == {np.dtype(np.uint8)}
    np.testing.assert_allclose(pairs["visible"][..., :3], (images - mean) / std, atol=1e-4)
    np.testing.assert_allclose(pairs["visible"][..., 3], infrared(made["visible"][..., 0]), atol=0.01)
    np.testing.assert_allclose(pairs["infrared"][..., :3], (made["infrared"] - mean) / std, atol=0.01)
    np.testing.assert_allclose(pairs["infrared"][..., 3], infrared(gray), atol=1e-4)
    assert np.ptp(made["visible"], axis=-1).max() == 0 < np.ptp(made["infrared"], axis=-1).max()


@pytest.mark.slow
def test_the_re_identification_loss_reaches_the_translators_unless_its_weight_is_0():
    method = built()
    state = jax.jit(method.init)(jax.random.key(0, impl="rbg"))
    networks = {**state.variables, **state.training["networks"]}
    # The scale of the last layer of a block starts at 0, and with it most of the gradient.
    networks["embedder"] = jax.tree.map(lambda x: x + 0.1, networks["embedder"])
    view = view_of(method)
    device = jax.local_devices()[:1]

    def gradient(joint):
        weighing = dataclasses.replace(method, translation=dataclasses.replace(method.translation, joint=joint))

        def loss(params):
            seen = {**networks, "translators": {"params": params}}
            return weighing.convert(seen, view, jax.random.key(0))[0]

        return jax.grad(loss)(networks["translators"]["params"])

    def alone(params):
        """The re-identification loss of the translations, composed by hand."""
        seen = {**networks, "translators": {"params": params}}
        codes = {m: method.encode(seen, view.pixels[m], m) + view.noise[m][0] for m in MODALITIES}
        made = {m: method.decode(seen, codes[m], OTHER[m]) for m in MODALITIES}
        total, _ = method.loss(networks, view._replace(translated=made), jax.random.key(0))
        return total

    def all_of_them(_):
        return gradient(0.0), gradient(2.0), jax.grad(alone)(networks["translators"]["params"])

    run = jax.pmap(all_of_them, axis_name=parallel.AXIS, devices=device)
    without, joint, reid = jax.tree.map(lambda x: np.asarray(x[0]), run(np.zeros(1)))
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(reid)) > 1e-3

    def assert_sum(a, b, c):
        np.testing.assert_allclose(b, a + 2 * c, rtol=0, atol=1e-4 * np.abs(b).max() + 1e-5)

    jax.tree.map(assert_sum, without, joint, reid)


@pytest.mark.slow
def test_a_run_resumes_to_the_bit_and_stops_at_what_is_not_finite_in_any_player(tmp_path):
    folder = small_runs.draw(tmp_path)
    fields = {**SMALL, "train.steps": 3, "checkpoint.every": 1, "checkpoint.keep": 3, "eval.every": 0}
    config = methods.configured(small_runs.config_of(folder, **fields), chosen=fields)
    whole = train(config, tmp_path / "whole")
    lines = small_runs.metrics_of(tmp_path / "whole")
    players = ("translators", "discriminators", "embedder")
    assert all({f"gradient_norm_{name}" for name in players} <= line.keys() for line in lines) and len(lines) == 3
    assert all(line[f"gradient_norm_{name}"] > 0 for name in players for line in lines)

    small_runs.killed_after(tmp_path / "whole", 1, tmp_path / "again")
    assert train(config, tmp_path / "again")["rows"] == whole["rows"]
    assert small_runs.metrics_of(tmp_path / "again") == lines
    method = methods.build(config, num_identities=5)
    shapes = jax.eval_shape(method.init, jax.random.key(0))

    def state_of(run, step):
        with Checkpoints(tmp_path / run / FOLDER, read_only=True) as checkpoints:
            return checkpoints.restore(step, shapes)

    last = state_of("whole", 3)
    jax.tree.map(np.testing.assert_array_equal, last, state_of("again", 3))
    before = state_of("whole", 1)
    for name, network in {**last.variables, **last.training["networks"]}.items():
        old = {**before.variables, **before.training["networks"]}[name]
        moved = jax.tree.map(np.array_equal, network["params"], old["params"])
        assert not all(jax.tree.leaves(moved)), name

    device = jax.local_devices()[:1]
    update = parallel.data_parallel(guarded(method.update, skip=True), device)
    batch = parallel.shard(make_batch(config), device)
    for name in players:
        state = state_of("whole", 3)
        place = state.variables if name in state.variables else state.training["networks"]
        leaves, structure = jax.tree.flatten(place[name]["params"])
        leaves[0] = np.full_like(leaves[0], np.nan)
        place[name]["params"] = structure.unflatten(leaves)
        kept = jax.tree.map(np.array, state)
        after, metrics = jax.device_get(update(state, batch))
        assert not np.isfinite(metrics[f"gradient_norm_{name}"]) or not metrics[STATE_IS_FINITE], name
        jax.tree.map(np.testing.assert_array_equal, kept.replace(step=kept.step + 1), after)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.height", 18, r"config\.data\.height is 18; expected a multiple of 4, because D2RL's translators"),
        ("data.width", 10, r"config\.data\.width is 10; expected a multiple of 4"),
        ("d2rl.critic_layers", 4, r"config\.d2rl\.critic_layers is 4; expected fewer, because images of 16x8"),
        ("d2rl.shared_blocks", 3, r"config\.d2rl\.shared_blocks is 3; expected at most blocks, 2"),
        ("d2rl.kl", -1.0, r"config\.d2rl\.kl is -1\.0; expected 0 or a positive number"),
        ("batch.visible", 0, r"config\.batch\.visible is 0; expected 1 or more, because D2RL translates both ways"),
        ("batch.infrared", 0, r"config\.batch\.infrared is 0; expected 1 or more"),
        ("model.input_form", "rgb", r"config\.model\.input_form is 'rgb'; expected 'four_channels', because D2RL"),
        ("augment.channel_augmentation", True, r"config\.augment\.channel_augmentation is True; expected False"),
    ],
)
def test_what_does_not_fit_is_named(field, value, message):
    config = methods.configured(tiny_config(**SMALL), chosen=set(SMALL))
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        config_lib.validate(config)


def test_codes_do_not_depend_on_the_number_of_devices_and_change_with_the_step():
    method = built()
    batch = jax.tree.map(lambda x: x[0], make_batch(tiny_config(**SMALL)))
    half = jax.tree.map(lambda x: x[4:], batch)

    def noise(batch, step):
        state = jax.eval_shape(method.init, jax.random.key(0)).replace(step=jnp.int32(step))
        return method.shown(state, batch).noise

    run = jax.jit(lambda: (noise(batch, 1), noise(half, 1), noise(batch, 2)))
    whole, part, later = run()
    for m in MODALITIES:
        for purpose in (0, 1):
            np.testing.assert_array_equal(whole[m][purpose][4:], part[m][purpose])
            assert abs(np.std(whole[m][purpose]) - 1) < 0.1
            assert not np.array_equal(whole[m][purpose], later[m][purpose])
        assert not np.array_equal(whole[m][0], whole[m][1])
    assert not np.array_equal(whole["visible"][0], whole["infrared"][0])
