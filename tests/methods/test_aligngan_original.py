"""AlignGAN's networks and all terms of its losses against numbers of its public code in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import aligngan as public
from helpers.steps import tiny_config

from jax_mspac import methods
from jax_mspac.methods.aligngan import AlignGan
from jax_mspac.methods.aligngan_networks import Encoded, View
from jax_mspac.modalities import MODALITIES
from jax_mspac.models.joint_alignment import JointDiscriminator
from jax_mspac.models.translation import Generator, PatchDiscriminator
from jax_mspac.runtime import parallel

# Pixels (row 5, column 7) of the first and (100, 3) of the last image that is made infrared. Scores: the first row of
# the joint discriminator's for the first infrared image, the last one of the other's for the last visible image.
MADE = [[-0.2635235032, 0.0246161003, -0.0915450021], [-0.2307464979, -0.0944315107, -0.4059137617]]
JOINT_SCORES = [0.7497154199, -1.5018018008, 0.7673122334, 0.1380223428]
VISIBLE_SCORES = [-0.4937834066, -1.576333, -0.5109193665, -0.7676046749]
ENCODER = {"identity": 1.1818413617 + 1.4373829102, "triplet": 2.3589243926, "fooling_features": 2.8661025178}
ENCODER_ALONE = {"identity": 1.4373829094, "triplet": 1.1042949376}
GENERATORS = {
    "fooling_visible": 3.2733534231,
    "fooling_infrared": 2.9951923368,
    "cycle": 0.6112664826,
    "mapping": 0.6109899868,
    "pixel_triplet": 2.3589243926,
    "pixel_identity": 1.1818413617,
}
IN_WARMUP = {**GENERATORS, "fooling_visible": 0.8536042612, "fooling_infrared": 1.0032866989}
DISCRIMINATORS = {
    "discriminator_visible": (2.8977997473 + 1.0494598053) / 2,
    "discriminator_joint": (2.8812582169 + (0.9459595837 + 0.9421915836 + 1.0160776319 + 0.9958363141) / 4) / 2,
}
DISCRIMINATORS_IN_WARMUP = {
    "discriminator_visible_warmup": (0.8563068132 + 0.8650407103) / 2,
    "discriminator_infrared_warmup": (0.9695243844 + 1.1902413086) / 2,
}
# Norms of the gradients of a player's loss, by network.
GRADIENTS = {
    "encoder": {"heads": 8.6175211517},
    "generators": {"to_infrared": 7.9465160154, "to_visible": 8.3414152679},
    "generators_in_warmup": {"to_infrared": 6.619374239, "to_visible": 6.2608347482},
    "discriminators": {"discriminator_visible": 18.7543302818, "discriminator_joint": 17.6204942724},
    "warmup": {"discriminator_visible_warmup": 4.4912141309, "discriminator_infrared_warmup": 6.179954227},
}


class WithPlainEncoder(AlignGan):
    """Its encoder is a linear map of a thumbnail."""

    def encoded(self, variables, images, *, train):
        maps = public.encoder_map(self.resized(images))
        return Encoded(maps.mean(axis=(1, 2)), maps, variables["embedder"]["batch_stats"])


@pytest.fixture(scope="module")
def networks():
    images, maps = jnp.zeros((1, public.SIZE, public.SIZE, 3)), jnp.zeros((1, 6, 4, 2048))
    patches, joint = PatchDiscriminator(public.WIDTH, 5), JointDiscriminator(public.WIDTH, 5)
    modules = {name: (patches, (images,)) for name in public.NETWORKS if name.startswith("discriminator")}
    modules["discriminator_joint"] = joint, (images, maps)
    for name in ("to_infrared", "to_visible"):
        modules[name] = Generator(public.WIDTH, 1, running=True), (images,)
    modules["heads"] = method().bottleneck_heads, (jnp.zeros((1, 2048)),)
    shapes = {
        name: jax.eval_shape(lambda module=module, inputs=inputs: module.init(jax.random.key(0), *inputs))
        for name, (module, inputs) in modules.items()
    }
    filled = {name: public.filled(name, shape) for name, shape in shapes.items()}
    return {**filled, "embedder": {"params": {}, "batch_stats": {}}}


def method():
    fields = {
        "method": "aligngan",
        "recipe": "config",
        "data.height": public.SIZE,
        "data.width": public.SIZE,
        "batch.identities": 2,
        "batch.visible": 4,
        "batch.infrared": 4,
        "model.width": public.WIDTH,
        "train.steps": 5,
        "aligngan.identities": 2,
        "aligngan.feature_warmup": 0.2,
        "aligngan.pixel_warmup": 0.4,
        "aligngan.blocks": 1,
        "aligngan.dropout": 0.0,
        "aligngan.height": 384,
        "aligngan.width": 192,
    }
    made = methods.build(methods.configured(tiny_config(**fields), chosen=set(fields)), num_identities=public.CLASSES)
    return WithPlainEncoder(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})


def view(images, step):
    def of_both(values):
        return dict(zip(MODALITIES, values, strict=True))

    keys = jax.random.split(jax.random.key(0), 8)
    return View(of_both(images), of_both([public.LABELS] * 2), of_both([keys] * 2), jnp.int32(step))


def test_what_the_networks_make(networks):
    visible, infrared = public.images()
    generator = Generator(public.WIDTH, 1, running=True)
    made, _ = generator.apply(networks["to_infrared"], visible, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose([made[0, 5, 7], made[7, 100, 3]], MADE, atol=1e-5)
    maps = method().encoded(networks, infrared, train=True).maps
    joint = JointDiscriminator(public.WIDTH, 5).apply(networks["discriminator_joint"], infrared, maps)
    np.testing.assert_allclose(joint[0, 0], JOINT_SCORES, atol=2e-4)
    scores = PatchDiscriminator(public.WIDTH, 5).apply(networks["discriminator_visible"], visible)
    np.testing.assert_allclose(scores[7, 3], VISIBLE_SCORES, atol=2e-4)


# The step before -> of which player, its terms, and the key of its gradients.
TURNS = {
    0: [("encoder", ENCODER_ALONE, "")],
    1: [("generators", IN_WARMUP, "generators_in_warmup"), ("warmup", DISCRIMINATORS_IN_WARMUP, "warmup")],
    3: [
        ("encoder", ENCODER, "encoder"),
        ("generators", GENERATORS, "generators"),
        ("discriminators", DISCRIMINATORS, "discriminators"),
    ],
}


@pytest.mark.slow
def test_terms_and_gradients(networks):
    players = method().players
    first = {**networks["embedder"], "params": {}}
    networks = {**networks, "embedder": first}

    def of(name):
        player = players[name]

        def loss(own, images, step):
            seen = {**networks, **{n: {**networks[n], "params": params} for n, params in own.items()}}
            value, outcome = player.loss(seen, (view(images, step),) * 2, jax.random.key(0))
            return value, outcome.metrics

        owned = {n: networks[n]["params"] for n in player.networks if n != "embedder"}
        graded = jax.value_and_grad(loss, has_aux=True)
        device = jax.local_devices()[:1]
        run = jax.pmap(graded, axis_name=parallel.AXIS, in_axes=(None, None, 0), out_axes=None, devices=device)
        # Images as an argument: what depends on constants alone is computed while compiling, which is slow.
        return lambda step: run(owned, public.images(), jnp.array([step]))

    compiled = {name: of(name) for name in players}
    with jax.default_matmul_precision("highest"):
        for step, turns in TURNS.items():
            for name, terms, key in turns:
                (total, metrics), gradients = compiled[name](step)
                told = {term: float(metrics[term]) for term in terms}
                np.testing.assert_allclose(list(told.values()), list(terms.values()), rtol=2e-4, err_msg=name)
                if key:
                    norms = {network: float(optax.tree.norm(of_it)) for network, of_it in gradients.items()}
                    assert norms == pytest.approx(GRADIENTS[key], rel=2e-3)
                if name == "generators":
                    expected = (terms["fooling_visible"] + terms["fooling_infrared"]) / 2
                    expected += 10 * terms["cycle"] + 5 * terms["mapping"]
                    expected += 0.1 * (terms["pixel_triplet"] + terms["pixel_identity"])
                elif name == "encoder":
                    expected = terms["identity"] + terms["triplet"] + 0.1 * terms.get("fooling_features", 0.0)
                else:
                    expected = sum(terms.values())
                np.testing.assert_allclose(float(total), expected, rtol=2e-4)
