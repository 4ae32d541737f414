"""RLE against the numbers of its authors' code: one batch of eight images through a whole ResNet-50."""

import numpy as np
import pytest
from helpers.original_steps import Original

from jax_mspac import methods
from jax_mspac.config import full_size_config

pytestmark = pytest.mark.slow

# The first two numbers of the first stripe and of the whole map, of the first and the last image, in inference: the
# feature of unit length of all parts. Of different images they differ by 4e-4 and less.
EMBEDDED = {
    ("visible", "before_neck"): [
        [0.01150491, 0.01130504, 0.01148162, 0.01121551],
        [0.01155527, 0.01129431, 0.01148654, 0.01121008],
    ],
    ("visible", "after_neck"): [
        [0.01850939, 0.005082081, 0.0188602, 0.003982677],
        [0.01855564, 0.005074623, 0.01886268, 0.003980421],
    ],
    ("infrared", "before_neck"): [
        [0.011488, 0.01127596, 0.01150142, 0.01119529],
        [0.01159344, 0.01130536, 0.01154685, 0.01120301],
    ],
    ("infrared", "after_neck"): [
        [0.01848713, 0.005081759, 0.01886171, 0.003989503],
        [0.01858495, 0.005107563, 0.01889676, 0.003994945],
    ],
}
# Part by part, the first two numbers of the first and the last image, in training: the pooled feature, the logits.
FEATURES = [
    [[0.4622205, 0.6221039], [0.4207014, 0.6725107]],
    [[0.4206066, 0.5597185], [0.4135109, 0.6246963]],
    [[0.4760733, 0.6463862], [0.3976708, 0.3796802]],
    [[0.4529667, 0.6094029], [0.4106277, 0.5589623]],
]
LOGITS = [
    [[-2.22148, 0.3116087], [-0.2480054, -0.7152605]],
    [[-0.2261851, -0.1638132], [-0.3183555, -1.344083]],
    [[0.01589555, -1.113684], [-0.7187214, 0.02289134]],
    [[0.7904578, 0.2131227], [0.2484238, 0.3933019]],
]
LOSSES = {"identity": 4.548218727, "batch_hard": 2.92103529, "loss": 7.469254017}
GRADIENTS = {
    "visible_module.visible.conv1.weight": 318.782,
    "thermal_module.thermal.bn1.bias": 47.4926,
    "base_resnet.base.layer1.0.conv1.weight": 149.328,
    "base_resnet.base.layer2.3.bn2.weight": 4.87314,
    "base_resnet.base.layer3.5.conv2.weight": 15.1293,
    "base_resnet.base.layer4.2.conv3.weight": 2.79249,
    "bottleneck2.weight": 0.11621,
    "bottleneckg.weight": 0.341867,
    "classifier3.weight": 1.92731,
    "classifierg.weight": 5.5214,
}
STATISTICS = {
    "thermal_module.thermal.bn1.running_mean": 0.748065,
    "bottleneck1.running_mean": 4.736739,
    "bottleneckg.running_mean": 4.736315,
}


@pytest.fixture(scope="module")
def original():
    config = full_size_config("sysu_mm01")
    config.method = "rle"
    config.data.height, config.data.width = 384, 192
    return Original(methods.configured(config), num_identities=8, zeros=r"bottleneck.\.bias")


def test_embeddings_are_the_original_s(original):
    found = original.embedded()
    for (modality, feature), expected in EMBEDDED.items():
        features = found[modality][feature]
        features = (features / np.linalg.norm(features, axis=1, keepdims=True)).reshape(4, 4, -1)[[0, -1]]
        ends = features[:, [0, 3], :2].reshape(2, 4)
        np.testing.assert_allclose(ends, expected, rtol=1e-5, err_msg=f"{modality} {feature}")


def test_a_step_is_the_original_s(original):
    step = original.step()
    for part, (features, logits) in enumerate(zip(FEATURES, LOGITS, strict=True)):
        np.testing.assert_allclose(step.features["before_neck"][[0, -1], part, :2], features, atol=1e-4)
        # torch's own float32 is up to 2e-4 of the largest logit away: the neck magnifies rounding.
        np.testing.assert_allclose(step.logits[[0, -1], part, :2], logits, atol=6e-4)
    for name, value in LOSSES.items():
        np.testing.assert_allclose(step.metrics[name], value, rtol=1e-4, err_msg=name)
    for name, norm in GRADIENTS.items():
        np.testing.assert_allclose(step.gradients[name], norm, rtol=1e-2, err_msg=name)
    for name, norm in STATISTICS.items():
        np.testing.assert_allclose(step.statistics[name], norm, rtol=1e-5, err_msg=name)
