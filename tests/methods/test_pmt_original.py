"""PMT against the numbers of its authors' code: eight images in one batch, a whole ViT-B/16, nothing dropped.

Weights and pixels are those of `helpers.originals`, in float32, of github.com/hulu88/PMT at 0b31da9 for SYSU-MM01 with
eight classes; its losses were told of two images per person and modality.
"""

import numpy as np
import pytest
from helpers.original_steps import Original

from jax_mspac import methods
from jax_mspac.config import full_size_config

pytestmark = pytest.mark.slow

# The first two numbers of the first and the last image, in inference: the class token, and the unit feature behind the
# neck.
EMBEDDED = {
    ("visible", "before_neck"): [[1.018634081, -0.6079386473], [0.9599685669, -0.3898994327]],
    ("visible", "after_neck"): [[0.08160641044, -0.03603319824], [0.07714706659, -0.02145206556]],
    ("infrared", "before_neck"): [[1.059138656, -0.08381194621], [0.9873339534, -0.06534466892]],
    ("infrared", "after_neck"): [[0.08561169356, -0.0003723927948], [0.0795250833, 0.000894260127]],
}
LOGITS = [[0.8169067502, -0.1628364623], [-0.6123645902, 0.7403623462]]
# Here identity is the mean of all images, there the sum of the two modalities' means.
FIRST = {"identity": 3.77829957 / 2, "intra_modality": 0.5585425496, "loss": 4.33684206}
SECOND = {
    "identity": 3.77829957 / 2,
    "batch_hard": 0.5323286653,
    "modality_shared": 0.1185122654,
    "discriminative_center": 0.7616640925,
    "loss": 4.750716686,
}
# Norms in the first and in the second stage.
GRADIENTS = {
    "base.cls_token": (3.84757, 3.11258),
    "base.pos_embed": (3.87975, 3.13942),
    "base.patch_embed.proj.weight": (14.4247, 11.1785),
    "base.patch_embed.proj.bias": (3.21144, 2.68224),
    "base.blocks.0.norm1.weight": (1.53074, 1.13779),
    "base.blocks.0.attn.qkv.bias": (3.17495, 2.62441),
    "base.blocks.0.mlp.fc2.weight": (21.048, 17.5454),
    "base.blocks.6.attn.qkv.weight": (3.73881, 3.26964),
    "base.blocks.6.attn.proj.bias": (0.0952443, 0.0876284),
    "base.blocks.6.norm2.bias": (0.20263, 0.179659),
    "base.blocks.11.attn.qkv.weight": (2.20067, 2.03375),
    "base.blocks.11.mlp.fc1.bias": (0.0869661, 0.0801402),
    "base.norm.weight": (0.64248, 0.422677),
    "classifier.weight": (7.27888, 7.27888),
    "bottleneck.weight": (0.764397, 0.764397),
}
MEAN = 2.850994989


@pytest.fixture(scope="module")
def original():
    config = full_size_config("sysu_mm01")
    config.method = "pmt"
    config.data.height, config.data.width = 256, 128
    config = methods.configured(config)
    config.model.drop_path = config.model.dropout = 0.0
    return Original(config, num_identities=8, zeros=r"bottleneck\.bias")


def test_embeddings_are_the_original_s(original):
    found = original.embedded()
    for (modality, feature), expected in EMBEDDED.items():
        features = found[modality][feature]
        if feature == "after_neck":
            features = features / np.linalg.norm(features, axis=1, keepdims=True)
        np.testing.assert_allclose(features[[0, -1], :2], expected, atol=1e-5, err_msg=f"{modality} {feature}")


@pytest.mark.parametrize(("stage", "losses"), [(0, FIRST), (1, SECOND)])
def test_a_step_of_each_stage_is_the_original_s(original, stage, losses):
    step = original.step(np.array(stage == 0))
    np.testing.assert_allclose(step.logits[[0, -1], 0, :2], LOGITS, atol=2e-4)
    for name, value in losses.items():
        np.testing.assert_allclose(step.metrics[name], value, rtol=1e-4, err_msg=name)
    for name, norms in GRADIENTS.items():
        np.testing.assert_allclose(step.gradients[name], norms[stage], rtol=1e-3, err_msg=name)
    np.testing.assert_allclose(step.statistics["bottleneck.running_mean"], MEAN, rtol=1e-5)
