"""The maximum against numpy, and where its gradient goes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_mspac.kernels.maximum import largest


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_largest_is_the_maximum_and_its_gradient_goes_to_one_entry(axis):
    x = jax.random.normal(jax.random.key(0), (3, 4, 5))
    np.testing.assert_array_equal(largest(x, axis=axis), np.max(x, axis=axis))
    np.testing.assert_allclose(
        jax.grad(lambda x: jnp.sum(largest(x, axis=axis) ** 2))(x),
        jax.grad(lambda x: jnp.sum(jnp.max(x, axis=axis) ** 2))(x),
        rtol=1e-6,
    )
    tied = jax.grad(lambda x: jnp.sum(largest(x, axis=axis)))(jnp.ones((3, 4, 5)))
    np.testing.assert_array_equal(jnp.sum(tied, axis=axis), 1.0)
    assert np.count_nonzero(tied) == 60 // x.shape[axis]


def test_largest_of_nothing_finite():
    x = jnp.full((2, 3), -jnp.inf)
    np.testing.assert_array_equal(largest(x, axis=1), -jnp.inf)
