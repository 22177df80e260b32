"""Arguments as users hand them in; odd ones are the business of torture/arguments.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hvax
from hvax.checks import check_key, real_array, real_number


def test_sequences_of_traced_numbers_are_arrays():
    """As in a warm-up of one prefactor; seen to fail where NumPy was asked."""
    doubled = jax.jit(lambda w: 2 * real_array((w, 1.0, 1), "w"))
    np.testing.assert_array_equal(doubled(3.0), [6.0, 2.0, 2.0])


@pytest.mark.parametrize("number", [1.0, 1, True])
def test_a_python_number_does_not_set_the_precision(number, x64):
    """Seen to fail where it became a float64 array of its own."""
    single = jnp.ones(3, jnp.float32)
    assert (real_number(number, "w") * single).dtype == jnp.float32
    assert (real_number(np.float64(number), "w") * single).dtype == jnp.float64


def test_a_float32_model_has_float32_losses_under_x64():
    vae = hvax.VAE(*hvax.mlp((4,), 2, hidden=(3,), key=jax.random.key(0)))
    vae = jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float32) if isinstance(a, jax.Array) else a, vae
    )
    with jax.enable_x64(True):
        x = np.zeros((5, 4), np.float32)
        value = hvax.loss(vae, x, key=jax.random.key(1), kl_weight=0.5)
        state = hvax.hamiltonian.phase_state(
            hvax.hamiltonian.ReverseMode().value_and_grad(lambda z: (0.5 * z @ z, None)),
            z=jnp.ones(2, jnp.float32),
            rho=jnp.ones(2, jnp.float32),
        )
        moved = hvax.hamiltonian.leapfrog_step(
            hvax.hamiltonian.ReverseMode().value_and_grad(lambda z: (0.5 * z @ z, None)), state, 0.1
        )
    assert value.dtype == moved.z.dtype == moved.rho.dtype == jnp.float32


@pytest.mark.parametrize("keys", [(3, 2), (2, 2), (3,), ()])
def test_an_old_key_is_two_words_or_four(keys):
    with pytest.raises(TypeError, match=r"key must be a random key, such as jax.random.key\(0\)"):
        check_key(np.zeros(keys, np.uint32))
    check_key(jax.random.PRNGKey(0))
    check_key(jax.random.PRNGKey(0, impl="rbg"))
