"""The annealed flows: their limits, what they cost, what they refuse."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax.hamiltonian.bridge import FixedBridge, LearnedBridge
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import ReverseMode, with_aux
from hvax.hamiltonian.integrator import PositionVerlet, VelocityVerlet
from hvax.hamiltonian.step_size import AffineStepSize
from hvax.hamiltonian.tempering import NullTempering, QuadraticTempering
from hvax.parameters import AbstractParameter, Fixed, Learned
from models_for_tests import FAMILY, METHODS, family, rough
from settings_for_tests import but_slow

D = 3


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), float)


def potential(z):
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(4, z.size)), z.dtype)
    return rough(weight)(z), {"hidden": weight @ z}


class Start:
    """Not Gaussian, and not normalized: a flow needs its gradient alone."""

    def __init__(self):
        self.sigma = jnp.asarray([0.5, 1.0, 2.0], float)

    def log_prob(self, z):
        return -jnp.sum(jnp.cosh(z - 0.3))


@eqx.filter_jit
def transport(flow, z, gamma, xi=None):
    return flow.transport(potential, z=z, gamma=gamma, xi=xi, start=Start()).trajectory


def noise(flow, seed=1):
    gamma, xi = flow.momenta(draw(D), key=jax.random.key(seed))
    return draw(D, seed=seed), gamma, xi


# Limits


def same(one, two, tolerance):
    for name in ("z_final", "rho_final", "log_refreshment", "energy_errors", "log_det_jacobian"):
        a, b = getattr(one, name), getattr(two, name)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=name)


class Exponential(AbstractParameter):
    """A learned parameter that reaches 1, as `Learned` does not."""

    raw: jax.Array

    @property
    def value(self):
        return jnp.exp(self.raw)


@pytest.mark.parametrize("what", ["b = 1", "eta = 1", "both", "mass"])
def test_at_one_it_is_the_hamiltonian_vae_s_flow(what, x64):
    """A bridge at 1, an eta that is 1 but learned, a mass of 1: the general code on the
    numbers of the special one. Seen to fail by 0.1 where b was k / (K + 1)."""
    plain = HamiltonianFlow(3, 0.2, QuadraticTempering(0.4))
    options = {}
    if what in ("b = 1", "both"):
        options["bridge"] = [1 - 2e-16, 1 - 1e-16, 1.0]
    if what in ("eta = 1", "both"):
        options["eta"] = Exponential(jnp.zeros(()))
    if what == "mass":
        options["mass"] = jnp.ones(D)
    flow = HamiltonianFlow(3, 0.2, QuadraticTempering(0.4), **options)
    z, gamma, xi = noise(flow)
    same(transport(flow, z, gamma, xi), transport(plain, z, gamma), 1e-13)
    assert flow.eta is None or float(flow.eta.value) == 1


def test_a_learned_eta_that_rounds_to_one_has_a_gradient(x64):
    """The root of 1 - eta^2 has none there."""
    flow = HamiltonianFlow(2, 0.2, eta=Learned(0.9))
    flow = eqx.tree_at(lambda f: f.eta.raw, flow, jnp.asarray(800.0))
    z, gamma, xi = noise(flow)
    slope = eqx.filter_grad(lambda flow: jnp.sum(transport(flow, z, gamma, xi).z_final))(flow)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize("eta", [1, 1.0, Fixed(1.0), np.float64(1.0), jnp.asarray(1.0)])
def test_an_eta_of_one_draws_no_noise(eta):
    flow = HamiltonianFlow(2, 0.2, eta=eta)
    assert flow.eta is None
    z = draw(D)
    gamma, xi = flow.momenta(z, key=jax.random.key(0))
    assert xi is None
    np.testing.assert_array_equal(gamma, jax.random.normal(jax.random.key(0), z.shape, z.dtype))


def test_a_mass_is_a_step_size(x64):
    """Momenta in unit mass: rho / sqrt(m)."""
    mass = jnp.asarray([0.3, 1.0, 2.5])
    heavy = HamiltonianFlow(3, 0.2, mass=mass)
    z, gamma, _ = noise(heavy)
    same(
        transport(heavy, z, gamma), transport(HamiltonianFlow(3, 0.2 / mass**0.5), z, gamma), 1e-14
    )


def test_units_of_the_posterior_are_its_sigma(x64):
    heavy = HamiltonianFlow(3, 0.2, units="posterior")
    z, gamma, _ = noise(heavy)
    plain = HamiltonianFlow(3, 0.2 * Start().sigma)
    same(transport(heavy, z, gamma), transport(plain, z, gamma), 1e-15)


def test_an_affine_step_size_between_equal_ends_is_a_number(x64):
    bridge = [0.2, 0.5, 0.7]
    affine = HamiltonianFlow(3, AffineStepSize(0.2, Learned(0.2)), bridge=bridge)
    z, gamma, _ = noise(affine)
    same(
        transport(affine, z, gamma),
        transport(HamiltonianFlow(3, 0.2, bridge=bridge), z, gamma),
        1e-15,
    )
    np.testing.assert_allclose(
        HamiltonianFlow(3, AffineStepSize(0.2, np.array([0.4, 0.6])), bridge=bridge).step_sizes,
        np.outer(bridge, [0.2, 0.4]) + 0.2,
    )


@pytest.mark.parametrize("integrator", ["velocity", "position"])
def test_leapfrog_steps_are_transitions_without_refreshment(integrator, x64):
    """On one potential, without tempering: L = 3 is K = 3."""
    untempered = NullTempering(1.0)
    one = HamiltonianFlow(1, 0.2, untempered, leapfrog_steps=3, integrator=integrator)
    three = HamiltonianFlow(3, 0.2, untempered, integrator=integrator)
    z, gamma, _ = noise(one)
    same(transport(one, z, gamma), transport(three, z, gamma), 1e-14)
    assert transport(one, z, gamma).energy_errors.shape == (3,)


def test_stages_end_where_the_flow_ends(x64):
    for name in FAMILY:
        flow = family(name, 3, D)
        z, gamma, xi = noise(flow)
        space, stages = flow.stages(potential, z=z, gamma=gamma, xi=xi, start=Start())
        assert stages.z.shape == stages.rho.shape == (3, D)
        np.testing.assert_allclose(stages.z[-1], space.z_final, rtol=1e-15)
        np.testing.assert_allclose(stages.rho[-1], space.rho_final, rtol=1e-15)
        np.testing.assert_allclose(jnp.sum(stages.log_refreshment), space.log_refreshment)


# The integrators


def test_position_verlet_is_velocity_verlet_seen_from_midway(x64):
    """Half a drift, velocity Verlet from midpoint to midpoint, half a drift back."""
    value_and_grad = ReverseMode().value_and_grad(with_aux(lambda z: potential(z)[0]))
    z, rho, step_size = draw(D), draw(D, seed=2), jnp.full(D, 0.2)
    position, velocity = PositionVerlet(), VelocityVerlet()
    state = position.start(value_and_grad, z=z, rho=rho)
    for _ in range(3):
        state, _ = position.step(value_and_grad, state, step_size)
    # The kick at the first midpoint is whole: velocity Verlet starts there with half of it taken
    # back, and ends with half of the last one to come.
    midway = z + 0.5 * step_size * rho
    back = rho - 0.5 * step_size * value_and_grad(midway).gradient
    other = velocity.start(value_and_grad, z=midway, rho=back)
    for _ in range(2):
        other, _ = velocity.step(value_and_grad, other, step_size)
    last = other.rho - 0.5 * step_size * other.gradient
    np.testing.assert_allclose(state.rho, last, rtol=1e-13)
    np.testing.assert_allclose(state.z, other.z + 0.5 * step_size * last, rtol=1e-13)


@pytest.mark.parametrize("name", ["dais", "everything by position"])
def test_the_energy_errors_of_position_verlet(name, x64):
    """Of third order in the step size from midpoint to midpoint, and of second at the end, where
    the last stretch has one gradient; none for a linear potential."""

    def errors(size, function=lambda z: potential(z)[0]):
        flow = HamiltonianFlow(3, size, NullTempering(1.0), integrator="position")
        z, gamma, _ = noise(flow)
        return np.abs(flow.transport(with_aux(function), z=z, gamma=gamma).trajectory.energy_errors)

    coarse, fine = errors(0.02), errors(0.01)
    np.testing.assert_allclose(np.log2(coarse / fine)[:-1], 3, atol=0.3)
    np.testing.assert_allclose(np.log2(coarse / fine)[-1], 2, atol=0.3)
    assert np.all(errors(0.5, lambda z: z @ jnp.arange(3.0)) < 1e-14)


# Cost


class Counter:
    """A function that counts its evaluations as the compiled program runs."""

    def __init__(self, function):
        self.function, self.count = function, 0

    def increment(self, _):
        self.count += 1

    def __call__(self, z):
        jax.debug.callback(self.increment, z)
        return self.function(z)


@pytest.mark.parametrize("L", [1, 3])
@pytest.mark.parametrize("num_steps", [0, 1, 4])
@pytest.mark.parametrize("name", ["uha", "dais"])
def test_one_gradient_a_leapfrog_step_and_one_evaluation(name, num_steps, L):
    """Of the potential and of log q alike: K L + 1, by position the last without gradient."""
    flow = getattr(HamiltonianFlow, name)(num_steps, leapfrog_steps=L)
    target, start = Counter(potential), Start()
    start.log_prob = Counter(start.log_prob)
    run = jax.jit(lambda z: flow(target, z, key=jax.random.key(0), start=start))
    jax.block_until_ready(run(draw(D)))
    jax.effects_barrier()
    assert target.count == num_steps * L + 1
    assert start.log_prob.count == (num_steps * L + 1 if num_steps else 0)


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_of_log_q_is_of_the_flows_method(method, x64):
    """By differences it is off by what differences are, and no more."""
    flow = HamiltonianFlow.uha(2, step_size=0.2, gradient=METHODS[method])
    exact = HamiltonianFlow.uha(2, step_size=0.2)
    z, gamma, xi = noise(flow)
    off = np.max(
        np.abs(transport(flow, z, gamma, xi).z_final - transport(exact, z, gamma, xi).z_final)
    )
    assert off < 1e-13 if method in ("reverse", "forward") else 1e-13 < off < 1e-6


@pytest.mark.parametrize("name", but_slow(FAMILY, keep=("everything", "everything by position")))
def test_recomputation_changes_no_number(name, x64):
    flow, again = family(name, 3, D), family(name, 3, D, remat=True)
    z, gamma, xi = noise(flow)

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(flow):
        return jnp.sum(transport(flow, z, gamma, xi).z_final ** 2)

    for a, b in zip(jax.tree.leaves(slope(flow)), jax.tree.leaves(slope(again)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


# Bridges


def test_a_learned_bridge_starts_where_it_is_told():
    np.testing.assert_allclose(LearnedBridge(3).weights(3), [0.25, 0.5, 0.75], rtol=1e-6)
    rising = np.array([0.1, 0.35, 0.9])
    np.testing.assert_allclose(LearnedBridge(3, rising).weights(3), rising, rtol=1e-5)
    assert LearnedBridge(0).weights(0).shape == (0,)


@pytest.mark.parametrize("raw", [-200.0, 200.0])
def test_a_learned_bridge_stays_inside(raw):
    """Whatever training does, b rises by 1e-4 at least from weight to weight, from 0 and to 1."""
    bridge = eqx.tree_at(lambda b: b.raw, LearnedBridge(3), jnp.asarray([0.0, raw, 0.0, 0.0]))
    steps = np.diff(np.asarray(bridge.weights(3), np.float64), prepend=0.0, append=1.0)
    assert np.all(steps > 0.99e-4)


# What is refused


OVER = r"the weights of a bridge must be increasing numbers in \(0, 1\]"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1.5}, r"eta must be in \[0, 1\], got 1.5"),
        ({"eta": -0.1}, r"eta must be in \[0, 1\], got -0.1"),
        ({"eta": np.nan}, r"eta must be in \[0, 1\], got nan"),
        ({"eta": np.full(2, 0.5)}, r"eta must be one number, got shape \(2,\)"),
        ({"eta": Learned(0.5, upper=2.0)}, "a learned eta must have upper <= 1, got upper=2.0"),
        ({"bridge": [0.0, 0.5, 1.0]}, OVER),
        ({"bridge": [0.5, 0.7, 1.1]}, OVER),
        ({"bridge": [0.5, 0.4, 0.9]}, OVER),
        ({"bridge": [0.5, 0.5, 0.9]}, OVER),
        ({"bridge": [0.2, np.nan, 0.9]}, OVER),
        ({"bridge": 0.5}, r"of a bridge must be one vector of shape \(d,\), got shape \(\)"),
        ({"bridge": [0.5, 0.9]}, "bridge must have 3 weights, one per transition, got 2"),
        ({"bridge": LearnedBridge(2)}, "bridge must have 3 weights, one per transition, got 2"),
        ({"leapfrog_steps": 0}, "leapfrog_steps must be >= 1, got 0"),
        ({"mass": 0.0}, "mass must be finite and > 0, got 0.0"),
        ({"mass": np.array([1.0, -1.0])}, "mass must be finite and > 0"),
        ({"mass": np.array([1.0, np.inf])}, "mass must be finite and > 0"),
        ({"mass": np.ones((2, 2))}, r"mass must have shape \(\) or \(d,\), got \(2, 2\)"),
        ({"units": "meter"}, "units must be 'latent' or 'posterior', got 'meter'"),
        ({"integrator": "euler"}, "integrator must be one of velocity, position, got 'euler'"),
        ({"step_size": AffineStepSize(0.1, 0.2)}, "bridge must be given"),
    ],
)
def test_what_is_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        HamiltonianFlow(3, **options)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ((0.0, 0.1), "at_start must be finite and > 0"),
        ((0.1, -0.1), "at_end must be finite and > 0"),
        ((0.1, np.ones((2, 2))), r"at_end must have shape \(\) or \(d,\)"),
    ],
)
def test_the_ends_of_an_affine_step_size(ends, message):
    with pytest.raises(ValueError, match=message):
        AffineStepSize(*ends)


def test_initial_weights_that_cannot_be_learned_are_refused():
    for initial in ([0.2, 0.5, 1.0], [0.00005, 0.5, 0.9], [0.2, 0.20005, 0.9]):
        with pytest.raises(ValueError, match=r"initial must rise by more than 0.0001 .* FixedB"):
            LearnedBridge(3, initial)
    with pytest.raises(ValueError, match=r"bridge must have . weights, .*, got 2"):
        LearnedBridge(3, [0.2, 0.5])
    assert isinstance(HamiltonianFlow(3, bridge=[0.2, 0.5, 1.0]).bridge, FixedBridge)


def test_what_a_call_lacks():
    z, gamma = draw(D), draw(D, seed=1)
    with pytest.raises(
        ValueError, match=r"start must have a log_prob\(z\) for a flow with a bridge, got None"
    ):
        HamiltonianFlow.uha(2, units="latent")(potential, z, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"start must have a sigma of shape \(3,\) .*, got none"):
        HamiltonianFlow(2, units="posterior")(potential, z, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"xi must be .* of shape \(2, 3\) .*, got none"):
        HamiltonianFlow(2, eta=0.5).transport(potential, z=z, gamma=gamma)
    with pytest.raises(ValueError, match=r"xi must be .* of shape \(2, 3\) .*, got shape \(1, 3\)"):
        HamiltonianFlow(2, eta=0.5).transport(potential, z=z, gamma=gamma, xi=draw(1, 3))
