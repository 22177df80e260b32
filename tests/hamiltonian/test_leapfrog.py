"""The laws of the leapfrog: reversible, symplectic, second order, and velocity Verlet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc.integrators import IntegratorState, velocity_verlet

from hvax.hamiltonian.gradient import ReverseMode, with_aux
from hvax.hamiltonian.leapfrog import PhaseState, leapfrog_step, phase_state
from models_for_tests import rough

D = 3


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), float)


def potential(z):
    weight = np.random.default_rng(0).normal(size=(4, D))
    return rough(jnp.asarray(weight, z.dtype))(z)


def trajectory(z, rho, step_size, num_steps, potential=potential):
    """The states after 0 ... num_steps steps, stacked."""
    value_and_grad = ReverseMode().value_and_grad(with_aux(potential))

    def step(state, _):
        return leapfrog_step(value_and_grad, state, step_size), state

    last, states = jax.lax.scan(step, phase_state(value_and_grad, z=z, rho=rho), length=num_steps)
    return jax.tree.map(lambda a, b: jnp.append(a, b[None], axis=0), states, last)


run = jax.jit(trajectory, static_argnames=("num_steps", "potential"))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_reversible(dtype, x64):
    """Fifty steps there, the momentum negated, fifty steps back."""
    z, rho = draw(D, seed=1).astype(dtype), draw(D, seed=2).astype(dtype)
    there = jax.tree.map(lambda a: a[-1], run(z, rho, dtype(0.1), 50))
    back = jax.tree.map(lambda a: a[-1], run(there.z, -there.rho, dtype(0.1), 50))
    assert np.linalg.norm(there.z - z) > 0.3  # it went somewhere
    # A hundred steps' roundings, stretched a few times by the flow: 10 times what is seen.
    tolerance = 1000 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(back.z, z, rtol=0, atol=tolerance)
    np.testing.assert_allclose(back.rho, -rho, rtol=0, atol=tolerance)


@pytest.mark.parametrize("step_size", [[0.2] * D, [0.1, 0.2, 0.3]])
def test_symplectic(step_size, x64):
    """J' Omega J = Omega, with Omega = sum dz_i ^ drho_i / step_size_i where they differ."""

    def end(point):
        state = run(point[:D], point[D:], jnp.asarray(step_size), 5)
        return jnp.concatenate([state.z[-1], state.rho[-1]])

    jacobian = np.asarray(jax.jacobian(end)(draw(2 * D, seed=1)))
    form = np.diag(step_size[0] / np.asarray(step_size))
    omega = np.block([[np.zeros((D, D)), form], [-form, np.zeros((D, D))]])
    assert np.linalg.norm(jacobian - np.eye(2 * D)) > 0.5
    # Products of 6 terms of up to 10: 1e-14 seen.
    np.testing.assert_allclose(jacobian.T @ omega @ jacobian, omega, rtol=0, atol=3e-13)
    np.testing.assert_allclose(np.linalg.det(jacobian), 1, rtol=0, atol=3e-13)


def test_energy_error_is_of_second_order(x64):
    """The largest |H - H_0| over a fixed time falls as step_size^2: slope 2 +- 0.1."""
    step_sizes = 0.1 * 2.0 ** -np.arange(6)
    errors = []
    for step_size in step_sizes:
        states = run(draw(D, seed=1), draw(D, seed=2), step_size, 320)
        energy = jax.vmap(lambda state: state.energy)(states)[: round(1 / step_size) + 1]
        errors.append(np.max(abs(energy - energy[0])))
    slope, _ = np.polyfit(np.log(step_sizes), np.log(errors), 1)
    assert abs(slope - 2) < 0.1


def test_it_is_velocity_verlet(x64):
    """blackjax's integrator, on the same potential with unit mass."""

    def log_density(z):
        return -potential(z)

    verlet = velocity_verlet(log_density, lambda rho, position=None: 0.5 * rho @ rho)
    z, rho = draw(D, seed=1), draw(D, seed=2)
    state = IntegratorState(z, rho, log_density(z), jax.grad(log_density)(z))
    states = run(z, rho, 0.15, 10)
    for k in range(1, 11):
        state = jax.jit(verlet)(state, 0.15)
        np.testing.assert_allclose(states.z[k], state.position, rtol=0, atol=1e-13)
        np.testing.assert_allclose(states.rho[k], state.momentum, rtol=0, atol=1e-13)
        np.testing.assert_allclose(states.potential[k], -state.logdensity, rtol=0, atol=1e-13)


def test_one_step_by_hand(x64):
    """U = |z|^2 / 2: every number on paper."""
    value_and_grad = ReverseMode().value_and_grad(lambda z: (0.5 * z @ z, "aux of z"))
    state = phase_state(value_and_grad, z=jnp.asarray([1.0]), rho=jnp.asarray([2.0]))
    assert state.energy == 0.5 + 2.0 and state.aux == "aux of z"
    moved = leapfrog_step(value_and_grad, state, jnp.asarray(0.5))
    # rho' = 2 - 0.25 = 1.75, z = 1 + 0.875 = 1.875, rho = 1.75 - 0.25 * 1.875 = 1.28125
    assert moved == PhaseState(1.875, 1.28125, 0.5 * 1.875**2, 1.875, "aux of z")


def test_a_step_size_per_dimension(x64):
    """On a sum of one-dimensional potentials each axis moves as it would alone."""

    def axis(z):
        return jnp.sum(jnp.cos(z) + 0.25 * z**4)

    z, rho, step_size = draw(D, seed=1), draw(D, seed=2), jnp.asarray([0.1, 0.2, 0.05])
    together = run(z, rho, step_size, 7, potential=axis)
    for i in range(D):
        alone = run(z[i : i + 1], rho[i : i + 1], step_size[i], 7, potential=axis)
        np.testing.assert_allclose(together.z[:, i], alone.z[:, 0], rtol=0, atol=1e-14)
        np.testing.assert_allclose(together.rho[:, i], alone.rho[:, 0], rtol=0, atol=1e-14)
