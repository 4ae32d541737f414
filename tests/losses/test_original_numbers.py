"""Losses against the values and gradients that the public code of their authors gives: see `helpers.originals`."""

import jax
import numpy as np
import pytest
from helpers import originals

from jax_mspac.losses import LOSSES as LOSSES_OF_A_STEP
from jax_mspac.losses import Examples
from jax_mspac.losses.base import alone
from jax_mspac.losses.center_cluster import center_cluster
from jax_mspac.losses.cross_modality_triplet import cross_modality_triplet
from jax_mspac.losses.discriminative_center import discriminative_center
from jax_mspac.losses.hetero_center import hetero_center
from jax_mspac.losses.hetero_center_triplet import hetero_center_triplet
from jax_mspac.losses.modality_shared import modality_shared
from jax_mspac.losses.ranking import dual_constrained
from jax_mspac.losses.triplet import batch_hard, weighted_regularized

SETS = {"random_8": ("random", 103, 8), "random_16": ("random", 105, 16), "random_20": ("random", 106, 20)}
SETS |= {"mixed_2": ("mixed", 132, 2), "mixed_20": ("mixed", 133, 20)}


def of_all(loss, **options):
    return lambda x: loss(x, np.tile(originals.IDENTITIES, len(x) // 32), **options)


def of_sides(loss, *, times=1, **options):
    def of(x):
        labels = originals.IDENTITIES
        return times * loss(x[:32], labels, x[32:], labels, **options)

    return of


def of_examples(loss):
    def of(x):
        labels = np.tile(originals.IDENTITIES, 2)
        return loss(Examples({"before_neck": x[:, None]}, None, labels, 32, alone), {})

    return of


CODE = {"epsilon": 1e-6}
LOSSES = {
    "weighted, epsilon": (64, of_all(weighted_regularized, **CODE)),
    "weighted": (64, of_all(weighted_regularized)),
    "squared, epsilon": (96, of_all(weighted_regularized, squared=True, clip=88.0, **CODE)),
    "squared": (96, of_all(weighted_regularized, squared=True, clip=88.0)),
    "batch-hard": (64, of_all(batch_hard, margin=0.3)),
    "center triplet": (64, of_sides(hetero_center_triplet, margin=0.3)),
    # The original's is the sum over the eight identities.
    "hetero-center": (64, of_sides(hetero_center, times=8, margin=0.0)),
    "hetero-center 0.1": (64, of_sides(hetero_center, times=8, margin=0.1)),
    # All triplets of the batch at once.
    "cross-modality triplet": (64, of_sides(cross_modality_triplet)),
    "intra-modality 0.1": (64, of_examples(LOSSES_OF_A_STEP["intra_modality"](margin=0.1))),
    "modality-shared": (64, of_sides(modality_shared)),
    "discriminative center": (64, of_all(discriminative_center)),
    "center cluster": (64, of_all(center_cluster)),
}
# Loss and set -> the value, the norm of the gradient, and its first three numbers in row 32.
NUMBERS = {
    "weighted, epsilon": {
        "random_8": (0.38788212, 0.03795481, [-0.000206131, 0.000115843, -0.000205872]),
        "random_16": (6.7226362, 0.8480701, [-0.00635753, 0.00674464, 0.00162095]),
        "random_20": (19.943743, 0.2413788, [-0.000188454, -0.00147276, 0.000181384]),
        "mixed_20": (17.622267, 0.5496219, [0.00344, -0.00110041, -0.00539709]),
    },
    "weighted": {
        "random_8": (0.38754969, 0.03793986, [-0.000205596, 0.000116029, -0.000205143]),
        "random_16": (0.18227176, 0.02401258, [0.000182916, 1.36092e-05, 4.95089e-06]),
        "random_20": (0.14601079, 0.02258613, [-0.000122583, 0.000162243, -3.8928e-06]),
        "mixed_20": (0.994234, 0.09408886, [-0.000196439, 9.42846e-05, 0.000276334]),
    },
    "squared, epsilon": {
        "random_8": (0.44526343, 0.04781851, [-0.000239444, 0.000146378, -0.000312802]),
        "random_16": (26.020579, 6.517481, [-0.0503309, 0.0499019, 0.0101367]),
    },
    "squared": {
        "random_8": (0.44488636, 0.04784061, [-0.000239209, 0.00014662, -0.000312388]),
        "random_16": (0.085695909, 0.02759681, [0.000114401, -3.62914e-06, 1.05708e-05]),
        "random_20": (0.051471223, 0.02190102, [-1.24729e-05, 4.79285e-05, -8.36674e-05]),
        "mixed_20": (0.89949493, 0.08442214, [-0.000177148, 2.80246e-05, 0.000175324]),
    },
    "batch-hard": {
        "random_8": (0.27663472, 0.2718134, [-0.00138548, 0.00108932, -0.000901801]),
        "random_16": (0.090233564, 0.1611157, [5.90646e-05, 0.000934908, 0.000105122]),
        "random_20": (0.18990476, 0.1634325, [0, -0, 0]),
        "mixed_20": (2.371737, 0.3271338, [-0.000414321, 0.00155219, 0.0012332]),
    },
    "center triplet": {
        "mixed_2": (0.35913443, 0.2592332, [0.00142768, -2.14657e-05, -0.000358883]),
        "mixed_20": (0.76338561, 0.2626836, [0.00227432, -0.000270251, 0.00104993]),
    },
    "hetero-center": {
        "random_8": (3.1747813, 0.3837225, [0.000786474, -0.000635279, -0.00209379]),
        "mixed_20": (3.9549894, 0.1867592, [0.00162729, 0.000460944, 0.000862658]),
    },
    "hetero-center 0.1": {
        "random_8": (2.3747813, 0.3837225, [0.000786474, -0.000635279, -0.00209379]),
        "mixed_20": (3.1549894, 0.1867592, [0.00162729, 0.000460944, 0.000862658]),
    },
    "cross-modality triplet": {
        "random_8": (1.0985024, 0.2377579, [-0.0003435, 0.00115512, -0.00214709]),
        "random_20": (0.086910962, 0.04593623, [-0.00021707, 0.000348467, -1.73547e-06]),
        "mixed_2": (2.8160276, 0.1890835, [0.000501109, -0.000450418, 0.000453706]),
        "mixed_20": (2.79742, 0.1842752, [0.00199223, -0.000864092, 0.000631203]),
    },
    "modality-shared": {
        "random_8": (0.021716889, 0.04248333, [-0.000174247, -5.03157e-05, -0.000175078]),
        "random_20": (0.16772796, 0.1129803, [0.00018575, 0.000255882, 0.000317851]),
        "mixed_20": (0.18101868, 0.1182882, [-0.000464732, 0.000378274, 0.000199389]),
    },
    "discriminative center": {
        "random_8": (0.76525082, 0.01838936, [-3.44728e-05, 8.49189e-05, -2.93484e-05]),
        "random_20": (0.74603133, 0.007117379, [-5.70676e-05, 9.31003e-06, -1.23839e-05]),
        "mixed_20": (0.90432488, 0.008529898, [-1.24922e-05, -2.82277e-05, 9.0358e-05]),
    },
    "intra-modality 0.1": {
        "random_8": (0.085474175, 0.2404708, [-0.00306111, 7.63725e-05, -0.00132678]),
        "random_20": (0.010011078, 0.09554475, [0, 0, 0]),
        "mixed_20": (3.2658563, 0.5999056, [-0.00223576, 0.00213628, -0.000870296]),
    },
    "center cluster": {
        "random_8": (5.2761265, 0.124994, [-0.00104042, -0.000180262, -0.001516]),
        "mixed_2": (1.3300848, 0.1762678, [-2.55537e-05, -0.000169835, -0.000820819]),
        "mixed_20": (13.176115, 0.1249922, [0.00104824, -0.000557216, -0.000932512]),
    },
}
# The same of BDTR's ranking loss, in row 64.
RANKING = {
    "pairs": (0.27478169, 0.008395708, [-1.21893e-05, 1.29481e-05, 2.72399e-06]),
    "relu": (1.0945869, 0.005060448, [8.20786e-06, 0, -1.32808e-05]),
}


def assert_equal(loss, features, row, expected, *, tolerance):
    value, gradient = jax.value_and_grad(loss)(features)
    np.testing.assert_allclose(value, expected[0], rtol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(gradient), expected[1], rtol=10 * tolerance)
    scale = np.abs(gradient[row]).max()
    np.testing.assert_allclose(gradient[row, :3], expected[2], rtol=0, atol=10 * tolerance * scale)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_original_s(name):
    rows, loss = LOSSES[name]
    loss = jax.jit(loss)
    for features, expected in NUMBERS[name].items():
        assert_equal(loss, originals.features(*SETS[features], rows), 32, expected, tolerance=1e-5)


@pytest.mark.parametrize("name", RANKING)
def test_ranking_loss_is_the_original_s(name):
    seed, make = {
        "pairs": (202, lambda draw: np.tile(draw((64, 1024)), (2, 1)) + draw((128, 1024))),
        "relu": (203, lambda draw: 3 * np.maximum(draw((128, 1024)), 0)),
    }[name]
    features = make(np.random.default_rng(seed).standard_normal).astype(np.float32)
    labels = np.arange(64)
    loss = jax.jit(lambda x: dual_constrained(x[:64], labels, x[64:], labels))
    assert_equal(loss, features, 64, RANKING[name], tolerance=1e-5)


def test_the_original_s_epsilon_and_clip_freeze_the_squared_loss_and_ours_does_not():
    # Distances of 20 and more are where training from ImageNet's weights with GeM starts.
    features = originals.features("random", 106, 20, 96)
    for name, moves in (("squared, epsilon", False), ("squared", True)):
        assert bool(np.any(jax.jit(jax.grad(LOSSES[name][1]))(features))) == moves
