"""MSPAC-MeCen, the method of the slides, as the config describes it: its readings and rivals are fields."""

from jax_mspac.methods import learned
from jax_mspac.methods.base import System

SYSTEM = System(title="MSPAC-MeCen", build=learned.build)
