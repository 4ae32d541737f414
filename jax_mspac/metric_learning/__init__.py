"""Linear metrics learnt from features that are given, on numpy and scipy.

Each module has

    fit(features, ids, cameras, modalities, *, dims, ...) -> Projection
    DISTANCE = "euclidean" or "cosine", the distance that its projections are meant for

with features float [N, D] and ids, cameras and modalities int [N]; a modality is a position in `modalities.MODALITIES`.
`cameras` is there for learners that tell cameras apart; these take the modalities for the views.
`base.project` applies what was learnt.
"""

from jax_mspac.metric_learning import cca, craft, hcml, kissme, lfda, pca

METRICS = {"pca": pca, "kissme": kissme, "lfda": lfda, "cca": cca, "craft": craft, "hcml": hcml}
