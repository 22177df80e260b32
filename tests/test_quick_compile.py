"""`quickly_compiled`: the same numbers, from a program that compiles faster."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax.quick_compile import quickly_compiled

X = jnp.linspace(-2.0, 2.0, 40).reshape(8, 5)


def smooth(x, y, *, power):
    return jnp.tanh(x @ y.T) ** power


def named(x, power):
    return smooth(x, x, power=power)


@pytest.mark.parametrize("level", [0, 1])
def test_numbers_are_the_same_to_rounding(level):
    found = quickly_compiled(level=level)(named)(X, 3)  # 3 is static, as in equinox.filter_jit
    np.testing.assert_allclose(found, named(X, 3), rtol=1e-5, atol=1e-6)


def test_the_compiler_gets_its_level():
    """Seen by the error that an impossible one gives; the function keeps its name."""
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_backend_optimization_level"):
        quickly_compiled(level=2**40)(named)(X, 2)
    assert quickly_compiled(level=0)(named).__name__ == "named"


def test_it_compiles_once_for_each_structure():
    traced = []

    @quickly_compiled(level=0)
    def counted(x):
        traced.append(x.shape)
        return x + 1

    for size in (3, 3, 4, 3):
        counted(jnp.ones(size))
    assert traced == [(3,), (4,)]
