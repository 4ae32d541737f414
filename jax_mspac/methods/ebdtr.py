"""eBDTR (Ye et al., TIFS 2020): BDTR with a center-constrained ranking loss, whose formula is our reading.

Its recipe is not public; BDTR's is taken.
"""

import dataclasses

from jax_mspac.methods import bdtr

SYSTEM = dataclasses.replace(
    bdtr.SYSTEM,
    title="eBDTR",
    settings={
        **bdtr.SETTINGS,
        "loss.dual_constrained.weight": 0.0,
        "loss.center_constrained.weight": 1.0,
        "loss.center_constrained.feature": "after_neck",
    },
)
