"""Losses: pure functions of features and labels.

Inputs may be bfloat16; every loss computes and returns float32. Each is finite, with a finite gradient, for any finite
input. NaN and infinity in the input come out as a non-finite loss, so that a diverged run is seen.
"""
