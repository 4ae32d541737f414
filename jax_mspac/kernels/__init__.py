"""Convolution, pooling and maximum in the form that is fast and safe on each platform."""
