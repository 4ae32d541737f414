"""Convolution, pooling and maximum in the form that is fast and safe on each platform.

The form is chosen for the platform that a program is lowered for. "native" switches the choice off. So does "plain",
whose maximum over windows is made of slices: not every format of networks has the native one.
"""

KERNELS = ("auto", "native", "plain")
