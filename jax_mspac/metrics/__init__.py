"""Retrieval metrics in numpy: CMC, mAP and mINP."""

from jax_mspac.metrics.retrieval import Retrieval, cosine_distances, evaluate, evaluate_protocol

__all__ = ["Retrieval", "cosine_distances", "evaluate", "evaluate_protocol"]
