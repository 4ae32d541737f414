"""MPANet against the numbers of its authors' code: eight images in one batch, a whole ResNet-50, copies that rest.

They are of float64. Its float32 differs by up to 2e-4 in logits and 5e-3 in norms of gradients.
"""

import numpy as np
import pytest
from helpers.original_steps import Original

from jax_mspac import methods
from jax_mspac.config import full_size_config

pytestmark = pytest.mark.slow

# The first two numbers of the first and the last part and of the whole map, of the first and the last image, in
# inference: the feature of unit length.
EMBEDDED = {
    ("visible", "before_neck"): [
        [0.0076267086, 0.0013742828, 0.0078784967, 0.0085286262, 0.016910464, 0.012602926],
        [0.0088218260, 0.0016586862, 0.0087839146, 0.0096668310, 0.016929985, 0.013065945],
    ],
    ("infrared", "before_neck"): [
        [0.0081607084, 0.0017487808, 0.0083250176, 0.0088578798, 0.016759947, 0.012767513],
        [0.0093197174, 0.0014778247, 0.0072800323, 0.0088277745, 0.017629636, 0.012871569],
    ],
    ("visible", "after_neck"): [
        [-0.00037464248, 0.0017687664, 0.0059034150, 0.0063806369, 0.016109053, 0.016697513],
        [0.00013438948, 0.0019384814, 0.0063700486, 0.0069996699, 0.016128375, 0.016974927],
    ],
    ("infrared", "after_neck"): [
        [-0.00014992301, 0.0019911861, 0.0061323689, 0.0065590668, 0.016039733, 0.016797668],
        [0.00032285503, 0.0018294454, 0.0055888780, 0.0065295856, 0.016449263, 0.016850180],
    ],
}
# Of the same parts, images and numbers in training: the feature before the neck; and the first four logits.
FEATURES = [
    [0.27047419, 0.20030904, 0.18852497, 0.11641822, 0.44667739, 0.29806461],
    [0.28532068, 0.13979298, 0.20593064, 0.09713691, 0.46836073, 0.26259144],
]
LOGITS = [[1.3693706, 1.0946599, 1.0632479, -0.054422426], [0.17187733, -0.13679208, -0.58354953, -0.87846403]]
LOSSES = {
    "identity": 2.0375633240,
    "center_cluster": 1.7943049669,
    "separation": 46.528379702,
    "modality_identity": 1.7869099379 + 2.7819375992,
    "mutual": 0.38325437903,
    "loss": 32.623043060,
}
GRADIENTS = {
    "backbone.conv1.weight": 1425.26,
    "backbone.layer1.0.conv1.weight": 474.581,
    "backbone.layer2.3.bn2.weight": 13.4175,
    "backbone.layer3.5.conv2.weight": 47.7856,
    "backbone.MAM3.channel_attention.0.weight": 3.21260,
    "backbone.MAM3.channel_attention.2.weight": 0.831642,
    "backbone.layer4.2.conv3.weight": 8.8053,
    "backbone.MAM4.channel_attention.0.weight": 33.8422,
    "backbone.MAM4.channel_attention.2.weight": 8.40053,
    "spatial_attention.weight": 96.3712,
    "spatial_attention.bias": 7.50441,
    "bn_neck.weight": 1.08056,
    "classifier.weight": 15.3734,
    "visible_classifier.weight": 25.8396,
    "infrared_classifier.weight": 34.2288,
    "visible_classifier_.weight": 0.0,
}
STATISTICS = {
    "backbone.bn1.running_mean": 0.74273446,
    "backbone.layer4.2.bn3.running_mean": 4.3156235,
    "bn_neck.running_mean": 10.970360,
}


@pytest.fixture(scope="module")
def original():
    config = full_size_config("sysu_mm01")
    config.method = "mpanet"
    config.data.height, config.data.width = 384, 128
    return Original(methods.configured(config), num_identities=8, zeros=r"bn_neck\.bias")


def ends(features):
    """The numbers of `EMBEDDED` and `FEATURES`, of features [n, 7 x 2048]."""
    return features.reshape(len(features), 7, 2048)[[0, -1]][:, [0, 5, 6], :2].reshape(2, 6)


def test_embeddings_are_the_original_s(original):
    assert len(original.names) == 334
    found = original.embedded()
    for (modality, feature), expected in EMBEDDED.items():
        features = found[modality][feature]
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
        np.testing.assert_allclose(ends(features), expected, atol=2e-7, err_msg=f"{modality} {feature}")


def test_a_step_is_the_original_s(original):
    step = original.step()
    np.testing.assert_allclose(ends(step.features["before_neck"]), FEATURES, atol=1e-4)
    np.testing.assert_allclose(step.logits[[0, -1], 0, :4], LOGITS, atol=6e-4)
    for name, value in LOSSES.items():
        np.testing.assert_allclose(step.metrics[name], value, rtol=2e-4, err_msg=name)
    for name, norm in GRADIENTS.items():
        np.testing.assert_allclose(step.gradients[name], norm, rtol=1e-2, err_msg=name)
    for name, norm in STATISTICS.items():
        np.testing.assert_allclose(step.statistics[name], norm, rtol=1e-5, err_msg=name)
