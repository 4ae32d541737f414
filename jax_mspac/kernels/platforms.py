"""Two forms of a function: one for CPUs, XLA's native one for all other platforms."""

from collections.abc import Callable

import jax
from jax import lax


def by_platform(cpu: Callable[..., jax.Array], native: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A function that has the form, and the gradient, of the platform that it is lowered for.

    Both forms are functions of arrays to an array, the same but for rounding: one for CPUs, one for other platforms.
    Derived automatically, the gradient would keep the residuals of both. This one keeps the arguments and
    computes what else it needs again; a compiler finds that the form has it already.
    """

    def gradients(form: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, ...]]:
        return lambda ct, *args: jax.vjp(form, *args)[1](ct)

    @jax.custom_vjp
    def chosen(*args: jax.Array) -> jax.Array:
        return lax.platform_dependent(*args, cpu=cpu, default=native)

    def forward(*args: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        return chosen(*args), args

    def backward(args: tuple[jax.Array, ...], ct: jax.Array) -> tuple[jax.Array, ...]:
        return lax.platform_dependent(ct, *args, cpu=gradients(cpu), default=gradients(native))

    chosen.defvjp(forward, backward)
    return chosen
