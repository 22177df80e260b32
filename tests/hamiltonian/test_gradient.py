"""Gradients of potentials: exact ones to rounding, finite ones to their derived error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from hvax.hamiltonian.gradient import (
    FiniteDifference,
    ForwardMode,
    ReverseMode,
    gradient_method,
    with_aux,
)
from models_for_tests import EXACT, METHODS, rough

D = 3


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), float)


def gradient(method, potential, z):
    return jax.jit(gradient_method(method).value_and_grad(with_aux(potential)))(z).gradient


def central_difference(f, z, h=1e-5):
    """In float64: truncation h^2 |f'''| / 6 < 1e-9 on `rough`, rounding eps |f| / h < 1e-9."""
    f = jax.jit(f)
    return np.stack([(f(z + e) - f(z - e)) / (2 * h) for e in h * np.eye(z.size)])


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("seed", range(3))
def test_exact_gradients_equal_a_central_difference(method, seed, x64):
    potential, z = rough(draw(4, D, seed=seed)), draw(D, seed=10 + seed)
    # The difference is within 1e-9 of the truth for these potentials (|U'''| < 10, |U| < 10).
    found = gradient(method, potential, z)
    np.testing.assert_allclose(found, central_difference(potential, z), rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", EXACT)
def test_exact_gradients_are_exact_in_the_default_dtype(method):
    weight, z = draw(4, D), draw(D, seed=1)
    found = gradient(method, rough(weight), z)
    assert found.dtype == z.dtype
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(array, np.float64)) for array in (weight, z)]
        truth = np.asarray(jax.grad(rough(wide[0]))(wide[1]))
    # A sum of about ten terms of order one: 20 roundings.
    np.testing.assert_allclose(found, truth, rtol=0, atol=20 * jnp.finfo(z.dtype).eps)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_gradient_has_the_type_of_z(method, x64):
    """As leapfrog needs it, where the potential's own is wider: data of float64, say."""
    z = draw(D).astype(jnp.float32)
    found = method.value_and_grad(lambda z: (jnp.sum(z.astype(jnp.float64) ** 2), None))(z)
    assert found.gradient.dtype == jnp.float32
    np.testing.assert_allclose(found.gradient, 2 * z, atol=1e-2)  # one-sided: off by h


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_value_and_aux_are_the_potentials_own(method):
    weight, z = draw(4, D), draw(D, seed=1)

    def potential(z):
        hidden = weight @ z
        return jnp.sum(hidden**2), {"hidden": hidden, "two": [2 * z]}

    found = method.value_and_grad(potential)(z)
    value, aux = potential(z)
    np.testing.assert_allclose(found.potential, value, rtol=1e-6)
    assert jax.tree.structure(found.aux) == jax.tree.structure(aux)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found.aux, aux)


# Finite differences: the step, and the error it brings.


@pytest.mark.parametrize("scheme, power", [("central", 1 / 3), ("forward", 1 / 2)])
def test_finite_step_size(scheme, power):
    """On U = sum (z - c)^3, differenced at z = c, the quotient is h^2 by either scheme."""
    c = jnp.asarray([0.0, 0.5, -1.0, -3.0, 100.0])
    h = jnp.sqrt(gradient(FiniteDifference(scheme), lambda z: jnp.sum((z - c) ** 3), c))
    eps = float(jnp.finfo(c.dtype).eps)
    # z + h is rounded to eps |z|, a part eps^(1 - power) of h at most; squared, cubed: 3 of them.
    expected = eps**power * np.maximum(1, abs(np.asarray(c, np.float64)))
    np.testing.assert_allclose(h, expected, rtol=3 * eps ** (1 - power))


def test_finite_error_is_truncation_plus_rounding(x64):
    """central: h^2 U''' / 6; forward: h U'' / 2; either with some 10 eps |U| / h of rounding."""
    weight, z = draw(4, D), draw(D, seed=1)
    potential, eps = rough(weight), np.finfo(np.float64).eps
    truth, size = gradient("reverse", potential, z), abs(potential(z))
    second = jnp.diag(jax.jit(jax.hessian(potential))(z))
    scale = np.maximum(1, abs(z))

    central = gradient(FiniteDifference(), potential, z) - truth
    h = eps ** (1 / 3) * scale
    assert np.all(abs(central) < h**2 * 10 / 6 + 10 * eps * size / h)  # |U'''| < 10 here

    forward = gradient(FiniteDifference("forward"), potential, z) - truth
    h = eps**0.5 * scale
    assert np.all(abs(forward - h * second / 2) < h**2 * 10 + 10 * eps * size / h)
    assert np.all(abs(forward) > 1e-10)  # and it is there: this is no exact method


@pytest.mark.parametrize("method, low, high", [("central", 1e-3, 1e-2), ("one-sided", 0.05, 0.3)])
def test_finite_error_in_float32_at_800_nats(method, low, high):
    """The order of magnitude that MATHS.md prints: 4e-3 and 0.1-0.2 nats per unit, RMS.

    From rounding alone: 800 has ulp 6.1e-5, two values of SD ulp / sqrt(12) each over 2h = 9.8e-3
    give 2.5e-3, over h = 3.5e-4 give 0.07; the sum's own roundings come on top.
    """
    weight = draw(784, D).astype(jnp.float32) / 5

    def potential(z):
        return jnp.sum(jax.nn.softplus(2 + weight @ z)) * (800 / 1670)

    z = draw(100, D, seed=1).astype(jnp.float32)
    found, exact = (
        jax.vmap(lambda z, m=m: gradient(m, potential, z))(z)
        for m in (METHODS[method], ReverseMode())
    )
    assert 700 < np.mean(jax.vmap(potential)(z)) < 900
    assert low < np.sqrt(np.mean((found - exact) ** 2)) < high


# Every method under jit, vmap and an outer gradient.


def tolerance(method):
    """Error of a gradient, and of its derivative, in float64 on `rough`: see above, times 20."""
    return {"central": 1e-8, "one-sided": 1e-6}.get(method, 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_jit_and_vmap_give_the_same_numbers(method, x64):
    potential, z = rough(draw(4, D)), draw(5, D, seed=1)
    evaluate = METHODS[method].value_and_grad(with_aux(potential))
    batched = jax.jit(jax.vmap(evaluate))(z).gradient
    for one, row in zip(z, batched, strict=True):
        np.testing.assert_allclose(row, evaluate(one).gradient, rtol=0, atol=tolerance(method))


@pytest.mark.parametrize("method", METHODS)
def test_an_outer_gradient_passes_through(method, x64):
    """d/dW of v . grad U(z; W), and the Hessian as d/dz of it; per example, as in training."""
    weight, z, v = draw(4, D), draw(5, D, seed=1), draw(D, seed=2)

    def outer(along):
        return jax.jit(jax.vmap(jax.grad(along, argnums=(0, 1)), (None, 0)))(weight, z)

    found = outer(lambda weight, z: v @ gradient(METHODS[method], rough(weight), z))
    expected = outer(lambda weight, z: v @ jax.grad(rough(weight))(z))
    for a, b in zip(found, expected, strict=True):
        assert np.all(abs(b).max(axis=0) > 1e-2)  # a stopped gradient would be zeros
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance(method))


def test_finite_step_is_a_constant_to_an_outer_gradient():
    """On U = (z - 5)^3 / 3 the central quotient is (z - 5)^2 + h^2 / 3. Its gradient at z = 5 is 0,
    and z + h and z - h are rounded alike there; were h = cbrt(eps) |z| differentiated, it would be
    2 h^2 / (3 z)."""

    def slope(z):
        return gradient(FiniteDifference(), lambda z: jnp.sum((z - 5) ** 3) / 3, z)[0]

    z = jnp.asarray([5.0])
    h = 5 * float(jnp.finfo(z.dtype).eps) ** (1 / 3)
    np.testing.assert_allclose(jax.grad(slope)(z), 0, atol=1e-3 * 2 * h**2 / 15)


# Names


def test_names():
    assert gradient_method("reverse") == ReverseMode()
    assert gradient_method("forward") == gradient_method("taylor") == ForwardMode()
    assert gradient_method("finite") == FiniteDifference("central")
    assert gradient_method(FiniteDifference("forward")) == FiniteDifference("forward")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="one of reverse, forward, taylor, finite, got 'magic'"):
        gradient_method("magic")
    # The suite's type checker may be the first to refuse.
    with pytest.raises(
        (ValueError, TypeCheckError), match=r"(?s)central.*forward|backward.*central"
    ):
        FiniteDifference("backward")
