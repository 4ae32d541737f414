"""Descriptors made by hand and linear metrics fitted to given features, on numpy and scipy.

A descriptor has `extract(images)`, uint8 [n, H, W, 3] to float32 [n, D], and `dim(height, width)`, which is D. A metric
has

    fit(features, ids, modalities, *, dims, ...) -> Projection

with features float [N, D], ids and modalities int [N]; a modality is a position in `modalities.MODALITIES`.
`projections.metric` documents the arguments that all share, `projections.project` applies what was learned.
"""

from jax_mspac.classical import cca, craft, hcml, hog, kissme, lfda, lomo, pca

FEATURES = {"hog": hog, "lomo": lomo}
METRICS = {"pca": pca, "kissme": kissme, "lfda": lfda, "cca": cca, "craft": craft, "hcml": hcml}
