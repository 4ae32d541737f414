"""Retrieval metrics in numpy: CMC, mAP and mINP."""

from jax_mspac.metrics.distances import cosine_distances
from jax_mspac.metrics.retrieval import Retrieval, evaluate, evaluate_protocol

__all__ = ["Retrieval", "cosine_distances", "evaluate", "evaluate_protocol"]
