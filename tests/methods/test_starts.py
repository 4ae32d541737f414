"""New layers of the systems start as in the authors' code, which sets their rates of learning apart."""

import jax
import numpy as np
import pytest
from helpers.steps import tiny_config

from jax_mspac import methods
from jax_mspac.models import resnet
from jax_mspac.models.backbones import BACKBONES

# Of a network of width 8, 64 features; 100 identities.
CLASSES, WIDTH = 100, 64


@pytest.mark.parametrize(
    ("name", "parameter", "deviation"),
    [
        # model.py of 98zyx/Hetero-center-loss...: kaiming_normal_ of a Linear with mode="fan_out", 512 features.
        ("hetero_center", "variables/embedder/params/embedding_0/kernel", (2 / 512) ** 0.5),
        ("hetero_center", "training/networks/heads/params/classifier", 0.001),
        # model_mine.py of hijune6/Hetero-center-triplet...: of a convolution with mode="fan_in".
        ("hetero_center_triplet", "variables/embedder/params/embedding_0/kernel", (2 / WIDTH) ** 0.5),
        # DEEN/model.py of ZYK100/LLCM: kaiming_normal_ of all convolutions of DEE_module. Layer 3 has 32 channels.
        ("deen", "variables/embedder/params/backbone/shared/diverse/branch1_dilation2/kernel", (2 / (9 * 32)) ** 0.5),
        ("deen", "variables/embedder/params/backbone/shared/diverse/branch2_out/kernel", (2 / 8) ** 0.5),
        ("deen", "training/networks/heads/params/classifier", 0.001),
        # models/baseline.py of DoubtedSteam/MPANet: nn.Linear as it comes, of the pooled feature and six parts.
        ("mpanet", "training/networks/heads/params/classifier", (3 * 7 * WIDTH) ** -0.5),
        ("mpanet", "training/networks/modality_classifiers/params/visible", (3 * 7 * WIDTH) ** -0.5),
    ],
)
def test_new_layers_start_as_the_originals(monkeypatch, name, parameter, deviation):
    monkeypatch.setitem(BACKBONES, "resnet18", resnet.backbone(resnet.BasicBlock, (1, 1, 1, 1)))
    network = {"model.backbone": "resnet18", "model.width": 8, "model.parts": ()}
    config = tiny_config(method=name, **{"data.height": 96, "data.width": 32}, **network)
    config = methods.configured(config, chosen=network)
    state = jax.jit(methods.build(config, num_identities=CLASSES).init)(jax.random.key(0))
    leaf = {"variables": state.variables, "training": state.training}
    for part in parameter.split("/"):
        leaf = leaf[part]
    assert abs(np.mean(leaf)) < 4 * deviation / leaf.size**0.5
    # Four standard errors of the deviation of normal numbers.
    np.testing.assert_allclose(np.std(leaf), deviation, rtol=4 / (2 * leaf.size) ** 0.5)
