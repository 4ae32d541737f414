"""AGW against the numbers of its authors' code: one batch of eight images through a whole ResNet-50."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import original_steps, originals

from jax_mspac.losses import distances

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
# The last three numbers of the first and of the last image's unit feature, in inference.
UNIT_FEATURES = {
    ("visible", "before_neck"): [
        [0.006970135, 1.350772e-05, 0.0004162584],
        [0.006978988, 1.350386e-05, 0.0001733357],
    ],
    ("visible", "after_neck"): [[-0.003073295, 0.0122031, -0.01405378], [-0.003063491, 0.0121997, -0.01419652]],
    ("infrared", "before_neck"): [
        [0.007019821, 1.346727e-05, 0.000291719],
        [0.007045283, 1.347231e-05, 0.0001104577],
    ],
    ("infrared", "after_neck"): [[-0.003007884, 0.01217469, -0.01409559], [-0.002989672, 0.01217728, -0.01420819]],
}
# The same of the pooled features and of the logits in training.
TRAIN_FEATURES = [[0.8371087, 0.7483137, 1.063949], [0.8784519, 1.051849, 0.8362011]]
TRAIN_LOGITS = [[0.6400464, 0.1726909, 0.1422619], [0.397307, -0.02205707, -0.1605121]]
# Identity and triplet loss at the first steps. On noise they are chaotic: torch's own float32 is 0.6 % off at the
# second.
TRACE = [
    [2.30346104525, 19.7275749447],
    [2.57784341849, 20.0790597417],
]
# The norm of a tensor's gradient at the first step.
GRADIENT_NORMS = {
    "visible_module.visible.conv1.weight": 15438.5176179,
    "thermal_module.thermal.bn1.bias": 2153.52448258,
    "base_resnet.base.layer1.0.conv1.weight": 6487.0064286,
    "base_resnet.base.layer2.3.bn2.weight": 146.496736419,
    "NL_2.0.theta.weight": 2213.31988329,
    "NL_3.0.g.0.weight": 986.396811803,
    "base_resnet.base.layer4.2.conv3.weight": 3.48916357267,
    "bottleneck.weight": 0.323088508557,
    "classifier.weight": 5.34810781706,
}
RUNNING_NORMS = {
    "visible_module.visible.bn1.running_mean": 0.642955310387,
    "bottleneck.running_mean": 5.78544360101,
}


def ends(features):
    return np.asarray(features).reshape(len(features), -1)[[0, -1], -3:]


def test_features_are_the_original_s():
    method, state = original_steps.agw()
    embedder = method.embedder.clone(axis_name=None)
    variables, heads = state.variables["embedder"], state.training["networks"]["heads"]

    @jax.jit
    def features(variables, heads, images):
        of = {m: embedder.apply(variables, {m: x}, train=False) for m, x in images.items()}
        train, _ = embedder.apply(variables, images, train=True, mutable=["batch_stats"])
        return of, train["before_neck"], method.heads.apply(heads, train["after_neck"])

    of, pooled, logits = features(variables, heads, originals.pixels())
    for (modality, name), expected in UNIT_FEATURES.items():
        found = ends(distances.unit(of[modality][name][:, 0]))
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=f"{modality} {name}")
    scale = np.abs(pooled).max(), np.abs(logits).max()
    np.testing.assert_allclose(ends(pooled), TRAIN_FEATURES, atol=1e-4 * scale[0])
    np.testing.assert_allclose(ends(logits), TRAIN_LOGITS, atol=1e-4 * scale[1])


def test_steps_in_64_bits_are_the_original_s():
    script = ROOT / "tests" / "helpers" / "agw_in_float64.py"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    # Rounding grows from step to step.
    for found, expected, error in zip(seen["trace"], TRACE, (1e-10, 1e-8), strict=True):
        np.testing.assert_allclose(found, expected, rtol=error)
    for kind, norms in (("gradients", GRADIENT_NORMS), ("statistics", RUNNING_NORMS)):
        for key, norm in norms.items():
            np.testing.assert_allclose(seen[kind][key], norm, rtol=1e-9, err_msg=key)
