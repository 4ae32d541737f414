"""Descriptors made by hand: pure numpy functions of images, without anything to learn.

Each module has `extract(images)`, uint8 [n, H, W, 3] to float32 [n, D], and `dim(height, width)`, which is D.
"""

from jax_mspac.handcrafted import hog, lomo

FEATURES = {"hog": hog, "lomo": lomo}
