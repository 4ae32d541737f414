"""TONE + HCML (Ye et al., AAAI 2018): TONE, and hierarchical cross-modality metric learning on its features."""

import dataclasses

from jax_mspac.methods import learned_metric, metric, tone

SYSTEM = dataclasses.replace(
    tone.SYSTEM,
    title="TONE + HCML",
    build=learned_metric.build,
    settings={
        **tone.SETTINGS,
        "metric.learner": "hcml",
        "metric.dims": 600,
        "eval.feature": metric.FEATURE,
        "eval.every": 0,  # the metric is fitted at the end
    },
    sections={"metric": metric.Metric},
)
