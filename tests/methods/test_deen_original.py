"""DEEN against the numbers of its authors' code: eight images in one batch, a whole ResNet-50, nothing dropped."""

import numpy as np
import pytest
from helpers.original_steps import Original

from jax_mspac import methods
from jax_mspac.config import full_size_config

pytestmark = pytest.mark.slow

# The first two numbers of the three embeddings, each of unit length, of the first and the last image, in inference.
EMBEDDED = {
    ("visible", "before_neck"): [
        [[0.0003582683, 0.004222519], [0.00492357, 0.007164644], [0.006156322, 0.004596746]],
        [[0.002092159, 0.004037634], [0.006542474, 0.0063537], [0.006813481, 0.005059403]],
    ],
    ("visible", "after_neck"): [
        [[0.0004741986, 0.004150899], [0.006426539, 0.006945608], [0.008062885, 0.004471346]],
        [[0.002771368, 0.003972328], [0.008558023, 0.006172723], [0.008935404, 0.004927914]],
    ],
    ("infrared", "before_neck"): [
        [[0.004777504, 0.006569654], [0.00331094, 0.006135338], [0.00954615, 0.004395938]],
        [[0.004033159, 0.005652748], [0.00271716, 0.006009277], [0.008448258, 0.004140907]],
    ],
    ("infrared", "after_neck"): [
        [[0.006335167, 0.006470206], [0.004330965, 0.005960608], [0.01253486, 0.004287078]],
        [[0.005349695, 0.005568805], [0.003551177, 0.00583308], [0.01109558, 0.004039214]],
    ],
}
# The same in training: the pooled feature, the logits.
FEATURES = [
    [[0.5028175, 0.6600681], [0.2499007, 0.4105407], [0.5071914, 0.651586]],
    [[0.4114354, 0.628382], [0.3170093, 0.3762447], [0.496053, 0.6259324]],
]
LOGITS = [
    [[0.3059326, -0.3740514], [-0.3347175, 0.9551966], [-0.00840351, -0.5593251]],
    [[0.243588, -0.4239846], [-0.3590823, 1.009828], [0.2212849, -0.2367086]],
]
# Identity; triplet; pair mining of the two branches; alignment; 0.8 and 0.01 times the last two in the sum.
LOSSES = {
    "identity": 2.268511534,
    "batch_hard": 14.04865646,
    "pair_mining": 13.92670631 + 14.78145409,
    "alignment": 152.9526062,
    "loss": 40.81322098,
}
GRADIENTS = {
    "visible_module.visible.conv1.weight": 198.237,
    "thermal_module.thermal.bn1.bias": 27.2529,
    "base_resnet.base.layer2.3.bn2.weight": 2.51434,
    "base_resnet.base.layer3.5.conv2.weight": 8.46675,
    "base_resnet.base.layer4.2.conv3.weight": 7.92213,
    "MFA1.CNL.theta.weight": 15.2543,
    "MFA2.CNL.W.0.weight": 3.37969,
    "MFA2.PNL.phi.weight": 2.04752,
    "MFA3.PNL.g.bias": 0.0775463,
    "MFA3.CNL.W.1.weight": 0.650114,
    "DEE.FC12.weight": 31.033,
    "DEE.FC2.bias": 1.28081,
    "bottleneck.weight": 0.24675,
    "classifier.weight": 3.93739,
}
STATISTICS = {"thermal_module.thermal.bn1.running_mean": 0.748144, "bottleneck.running_mean": 4.69541}


@pytest.fixture(scope="module")
def original():
    config = full_size_config("sysu_mm01")
    config.method = "deen"
    config.data.height = 384
    # The norms that close the non-local blocks are a tenth of the rule's.
    scales = {"zeros": r"bottleneck\.bias", "small": r".*\.W\.1\.weight"}
    return Original(methods.configured(config), num_identities=8, **scales)


def test_embeddings_are_the_original_s(original):
    found = original.embedded()
    for (modality, feature), expected in EMBEDDED.items():
        features = found[modality][feature].reshape(4, 3, -1)[[0, -1], :, :2]
        np.testing.assert_allclose(features, expected, atol=1e-6, err_msg=f"{modality} {feature}")


def test_a_step_is_the_original_s(original):
    step = original.step()
    np.testing.assert_allclose(step.features["before_neck"][[0, -1], :, :2], FEATURES, atol=1e-4)
    np.testing.assert_allclose(step.logits[[0, -1], :, :2], LOGITS, atol=2e-4)
    for name, value in LOSSES.items():
        np.testing.assert_allclose(step.metrics[name], value, rtol=1e-4, err_msg=name)
    # The gates of the first attention see near-equal sums: float32 leaves two digits of their gradients.
    for name, norm in GRADIENTS.items():
        np.testing.assert_allclose(step.gradients[name], norm, rtol=2e-2, err_msg=name)
    for name, norm in STATISTICS.items():
        np.testing.assert_allclose(step.statistics[name], norm, rtol=1e-5, err_msg=name)
