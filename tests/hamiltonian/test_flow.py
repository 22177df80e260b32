"""The tempered flow on any potential: its Jacobian, its cost, its shapes, its diagnostics."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import FiniteDifference, ReverseMode, with_aux
from hvax.hamiltonian.leapfrog import leapfrog_step, phase_state
from hvax.hamiltonian.tempering import CustomTempering, NullTempering, QuadraticTempering
from hvax.parameters import Learned
from models_for_tests import METHODS, SCHEDULES, rough, tempering


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), float)


def potential(z):
    """`rough` in any dimension and dtype, with an aux."""
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(4, z.size)), z.dtype)
    return rough(weight)(z), {"hidden": weight @ z}


@eqx.filter_jit
def move(flow, z, gamma, potential=potential):
    return flow.transport(potential, z=z, gamma=gamma)


def transport(*args):
    return move(*args).trajectory


# The Jacobian


@pytest.mark.parametrize("num_steps", [0, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_log_det_jacobian_is_that_of_autodiff(schedule, num_steps, x64):
    """The map (z_0, rho_0) -> (z_K, rho_K), with rho_0 the variable and not gamma."""
    d = 2
    flow = HamiltonianFlow(num_steps, 0.2, tempering(schedule, num_steps))
    root = jnp.sqrt(flow.tempering.beta(num_steps)[0])

    def end(point):
        phase = flow.transport(potential, z=point[:d], gamma=root * point[d:]).trajectory
        return jnp.concatenate([phase.z_final, phase.rho_final]), phase.log_det_jacobian

    point = draw(2 * d, seed=1)
    jacobian, log_det = jax.jit(jax.jacobian(end, has_aux=True))(point)
    truth = np.linalg.slogdet(jacobian)[1]
    # An LU of a 4 x 4 matrix: 1e-15 seen.
    np.testing.assert_allclose(log_det, truth, rtol=0, atol=3e-14)
    beta = np.asarray(flow.tempering.beta(num_steps))
    np.testing.assert_allclose(log_det, d / 2 * np.log(beta[0] / beta[-1]), rtol=0, atol=3e-14)
    if num_steps and schedule != "null":
        assert abs(log_det) > 0.5  # a dropped term would be seen


# What a flow costs


class Counter:
    """A potential that counts its evaluations as the compiled program runs."""

    def __init__(self):
        self.count = 0

    def increment(self, _):
        self.count += 1

    def __call__(self, z):
        jax.debug.callback(self.increment, z)
        return potential(z)


@pytest.mark.parametrize("num_steps", [0, 1, 4])
@pytest.mark.parametrize("method", METHODS)
def test_a_flow_of_K_steps_evaluates_K_plus_one_gradients(method, num_steps):
    """One pass each by reverse and forward mode, 2d + 1 and d + 1 by finite differences."""
    d, counter = 3, Counter()
    flow = HamiltonianFlow(num_steps, 0.1, gradient=METHODS[method])
    jax.block_until_ready(jax.jit(lambda z: flow(counter, z, key=jax.random.key(0)))(draw(d)))
    jax.effects_barrier()
    passes = {"reverse": 1, "forward": 1, "central": 2 * d + 1, "one-sided": d + 1}[method]
    assert counter.count == ((num_steps + 1) * passes if num_steps else 1)


def test_no_steps_take_no_gradient():
    @jax.custom_jvp
    def flat(z):
        return jnp.sum(z)

    @flat.defjvp
    def _(primals, tangents):
        pytest.fail("differentiated")

    z, gamma = draw(2), draw(2, seed=1)
    flow = HamiltonianFlow(0, 0.1, QuadraticTempering(0.25))
    result = flow.transport(lambda z: (flat(z), 2 * z), z=z, gamma=gamma)
    phase = result.trajectory
    np.testing.assert_array_equal(phase.z_final, z)
    np.testing.assert_array_equal(phase.rho_init, 2 * gamma)
    np.testing.assert_array_equal(phase.rho_final, phase.rho_init)
    np.testing.assert_array_equal(result.aux, 2 * z)
    np.testing.assert_array_equal(phase.beta, [0.25])
    assert phase.energy_errors.shape == (0,) and phase.log_det_jacobian == 0
    assert not phase.divergent


def wide(z):
    """A potential whose evaluation holds much more than z: 2,000 numbers between z and U."""
    hidden = jnp.tanh(jnp.asarray(np.random.default_rng(0).normal(size=(2000, z.size)), float) @ z)
    return jnp.sum(hidden**2), None


def compiled_gradient(num_steps, remat):
    """The gradient of a flow's end in its step size and start, for a batch of 50."""
    gamma = draw(50, 3, seed=2)

    def end(step_size, z):
        flow = HamiltonianFlow(num_steps, step_size, remat=remat)
        end = jax.vmap(lambda z, gamma: flow.transport(wide, z=z, gamma=gamma))(z, gamma)
        return jnp.sum(end.z**2)

    start = jnp.asarray(0.01), draw(50, 3)
    return jax.jit(jax.grad(end, argnums=(0, 1))).lower(*start).compile(), start


def test_recomputation_keeps_memory_flat_in_K():
    """A step more holds its position and momentum, 3 numbers each for a point. Without
    recomputation it holds what it computed: 2,000 numbers and more for a point. One step alone
    has no loop, whose own buffers, of any number of steps, are less than those of a step."""
    held = {
        (remat, K): compiled_gradient(K, remat)[0].memory_analysis().temp_size_in_bytes
        for remat in (False, True)
        for K in (1, 25, 50)
    }
    points, number = 50, jnp.zeros(()).dtype.itemsize
    of_a_step = {remat: (held[remat, 50] - held[remat, 25]) / 25 for remat in (False, True)}
    assert of_a_step[True] < points * 20 * number
    assert of_a_step[False] > points * 2000 * number
    assert (held[False, 25] - held[False, 1]) / 24 == pytest.approx(of_a_step[False], rel=0.1)
    assert held[True, 50] - held[True, 1] < of_a_step[False]


def test_recomputation_changes_no_number(x64):
    plain, again = (compiled_gradient(4, remat) for remat in (False, True))
    for a, b in zip(plain[0](*plain[1]), again[0](*again[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


# The steps themselves


value_and_grad = ReverseMode().value_and_grad(potential)
at = jax.jit(lambda z, rho: phase_state(value_and_grad, z=z, rho=rho))
step = jax.jit(lambda state, step_size: leapfrog_step(value_and_grad, state, step_size))


@pytest.mark.parametrize("schedule, d", [(name, 3) for name in SCHEDULES] + [("quadratic", 1)])
def test_the_flow_is_leapfrog_steps_and_scalings(schedule, d, x64):
    num_steps, step_size = 3, np.array([0.1, 0.2, 0.15])
    flow = HamiltonianFlow(num_steps, step_size[:, None], tempering(schedule, num_steps))
    z, gamma = draw(d, seed=1), draw(d, seed=2)
    result = move(flow, z, gamma)
    phase = result.trajectory

    beta = np.asarray(flow.tempering.beta(num_steps))
    state = at(z, gamma / np.sqrt(beta[0]))
    # rho is drawn with variance 1 / beta_0, and energy errors are those before the scaling.
    np.testing.assert_allclose(phase.rho_init, state.rho, rtol=1e-14)
    errors = []
    for k in range(1, num_steps + 1):
        moved = step(state, jnp.asarray(step_size[k - 1]))
        errors.append(moved.energy - state.energy)
        state = moved._replace(rho=moved.rho * np.sqrt(beta[k - 1] / beta[k]))
    for found, expected in [
        (phase.z_init, z),
        (phase.gamma, gamma),
        (phase.beta, beta),
        (phase.z_final, state.z),
        (phase.rho_final, state.rho),
        (phase.energy_errors, errors),
        (result.aux["hidden"], potential(state.z)[1]["hidden"]),
    ]:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    assert np.all(np.abs(errors) > 1e-6)


def test_energy_is_conserved_better_by_smaller_steps(x64):
    def largest(step_size):
        flow = HamiltonianFlow(8, step_size, NullTempering(1.0))
        return np.max(abs(transport(flow, draw(2, seed=1), draw(2, seed=2)).energy_errors))

    # One step's error is of third order, so half the step has an eighth of it, roughly.
    assert 5 < largest(0.02) / largest(0.01) < 11


@pytest.mark.parametrize("shape", [(), (2,), (3, 1), (3, 2)])
@pytest.mark.parametrize("learned", [False, True])
def test_step_size_shapes(shape, learned, x64):
    """Every shape is the (K, d) one it broadcasts to."""
    step_size = np.random.default_rng(0).uniform(0.05, 0.2, size=shape)
    full = np.broadcast_to(step_size, (3, 2))
    found, expected = (
        transport(HamiltonianFlow(3, value), draw(2, seed=1), draw(2, seed=2))
        for value in (Learned(step_size, upper=0.5) if learned else step_size, full)
    )
    np.testing.assert_allclose(found.z_final, expected.z_final, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.rho_final, expected.rho_final, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(3,), (1,), (3, 5), (1, 2), (2, 3), (1, 1)])
def test_other_step_size_shapes_are_refused(shape):
    """(K,) with K = 3 in two dimensions is ambiguous, and no other shape is guessed at."""
    with pytest.raises(ValueError, match=r"step_size must have shape \(\), .*got \("):
        flow = HamiltonianFlow(3, np.full(shape, 0.1))
        flow(potential, draw(2), key=jax.random.key(0))


def test_K_numbers_in_K_dimensions_are_one_per_dimension(x64):
    step_size = np.array([0.05, 0.1, 0.2])
    z, gamma = draw(3, seed=1), draw(3, seed=2)
    found = transport(HamiltonianFlow(3, step_size), z, gamma)
    expected = transport(HamiltonianFlow(3, np.tile(step_size, (3, 1))), z, gamma)
    np.testing.assert_allclose(found.z_final, expected.z_final, rtol=0, atol=1e-14)


# Calling it


def test_a_plain_potential_and_the_key():
    """A plain z -> U; the momentum is standard normal noise from the key, over sqrt(beta_0)."""
    flow, z = HamiltonianFlow(2, 0.1, QuadraticTempering(0.25)), draw(3)
    plain = flow(lambda z: potential(z)[0], z, key=jax.random.key(1))
    result = flow(potential, z, key=jax.random.key(1))
    phase = result.trajectory
    assert plain.aux is None
    np.testing.assert_allclose(plain.z, result.z, rtol=1e-5)
    np.testing.assert_array_equal(phase.gamma, jax.random.normal(jax.random.key(1), (3,)))
    np.testing.assert_allclose(phase.rho_init, 2 * phase.gamma, rtol=1e-6)
    other = flow(potential, z, key=jax.random.key(2))
    assert not np.allclose(phase.gamma, other.trajectory.gamma)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_jit_equals_eager(wide):
    with jax.enable_x64(wide):
        flow = HamiltonianFlow(3, 0.1, QuadraticTempering(Learned(0.3)))
        z, gamma = draw(3), draw(3, seed=1)
        eager, jitted = flow.transport(potential, z=z, gamma=gamma), move(flow, z, gamma)
    for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
        assert a.dtype == b.dtype == (np.float64 if wide else np.float32)
        # Four evaluations of numbers up to ten: 30 times one rounding.
        np.testing.assert_allclose(a, b, rtol=0, atol=300 * np.finfo(a.dtype).eps)


def test_float32_stays_so_where_float64_is_enabled(x64):
    flow = HamiltonianFlow(3, 0.1, QuadraticTempering(Learned(0.3)))
    z, gamma = draw(3), draw(3, seed=1)
    wide = transport(flow, z, gamma)
    narrow = transport(flow, z.astype(jnp.float32), gamma.astype(jnp.float32))
    for a, b in zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True):
        assert a.dtype == np.float32 and b.dtype == np.float64
        # 30 times one rounding of numbers up to ten.
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-5)


def test_gradient_by_name_and_by_method():
    assert HamiltonianFlow(gradient="finite").gradient == FiniteDifference()
    assert HamiltonianFlow(gradient=FiniteDifference("forward")).gradient == FiniteDifference(
        "forward"
    )


def test_the_defaults():
    flow = HamiltonianFlow()
    assert flow.num_steps == 3 and flow.gradient == ReverseMode()
    np.testing.assert_allclose(flow.step_size.value, 0.05, rtol=1e-6)
    np.testing.assert_array_equal(flow.tempering.beta(3), np.ones(4))
    assert flow.bridge is None and flow.eta is None and flow.max_force is None


# Divergence


def test_divergent_trajectories_are_told():
    """|Delta H| > 1000 nats in a step, or not finite."""
    z, gamma = 3.0 * jnp.ones(2), jnp.ones(2)
    quartic = with_aux(lambda z: jnp.sum(z**4))

    def divergent(step_size, potential=quartic, num_steps=3):
        flow = HamiltonianFlow(num_steps, step_size)
        return bool(transport(flow, z, gamma, potential).divergent)

    assert not divergent(0.01)
    assert divergent(0.3)
    assert divergent(1.0, num_steps=10)  # overflows to inf and nan
    assert divergent(0.01, with_aux(lambda z: jnp.sum(z) * jnp.nan))
    assert not divergent(0.3, with_aux(lambda z: jnp.sum(z) * jnp.nan), num_steps=0)


@pytest.mark.parametrize("height, expected", [(990.0, False), (1010.0, True)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_divergence_threshold(height, expected, sign):
    """A cliff of this many nats, up or down, that the gradient does not see."""
    cliff = with_aux(lambda z: sign * height * (z[0] > 0.05).astype(z.dtype) + 0.0 * jnp.sum(z))
    flow = HamiltonianFlow(1, 0.1, NullTempering(1.0))
    phase = flow.transport(cliff, z=jnp.zeros(1), gamma=jnp.ones(1)).trajectory
    assert bool(phase.divergent) is expected


# What is refused


@pytest.mark.parametrize("value", [0.0, -0.1, np.nan, np.inf, np.array([0.1, 0.0])])
def test_step_sizes_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match="step_size must be finite and > 0"):
        HamiltonianFlow(2, value)


@pytest.mark.parametrize("beta", [0.0, -1.0, np.nan, np.inf])
def test_custom_schedules_out_of_range_are_refused(beta):
    with pytest.raises(ValueError, match="inverse temperatures must be finite and > 0"):
        HamiltonianFlow(2, 0.1, CustomTempering(lambda beta0, k, K: beta if k == 1 else 1.0))


def test_num_steps_must_be_a_whole_number():
    with pytest.raises(ValueError, match="num_steps must be >= 0"):
        HamiltonianFlow(-1)
    for wrong in (1.5, True):
        with pytest.raises((TypeError, TypeCheckError), match="num_steps"):
            HamiltonianFlow(wrong)


def test_z_must_be_one_vector():
    with pytest.raises((ValueError, TypeCheckError), match=r"z|shape"):
        HamiltonianFlow(1).transport(potential, z=jnp.zeros((2, 3)), gamma=jnp.zeros((2, 3)))


# The limit of the force


def steep(z):
    """A wall at z_0 > 2, steeper than float32 holds a few units on."""
    return jnp.sum(0.5 * z**2) + jnp.exp(40.0 * (z[0] - 2.0))


def at_wall(max_force):
    flow = HamiltonianFlow(
        6, 0.4, NullTempering(1.0), units="latent", max_force=max_force, integrator="position"
    )
    z = jnp.stack([jnp.linspace(1.5, 3.0, 30), jnp.zeros(30)], axis=1)
    keys = jax.random.split(jax.random.key(0), 30)
    return jax.vmap(lambda z, key: flow(steep, z, key=key))(z, keys)


def test_no_trajectory_runs_away_within_a_limit_of_the_force():
    """Without it one ends at 9e19; with it no further than K^2 step^2 / 2 times 30."""
    assert not np.all(np.abs(at_wall(None).z) < 1e6)
    assert np.all(np.abs(at_wall(30.0).z) < 36 * 0.16 * 30)


def test_a_force_within_its_limit_changes_no_bit():
    ends = [
        HamiltonianFlow(4, 0.2, NullTempering(1.0), max_force=limit)(
            lambda z: 0.5 * z @ z, jnp.ones(3), key=jax.random.key(3)
        ).z
        for limit in (None, 100.0)
    ]
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("integrator", ["velocity", "position"])
def test_a_limited_force_preserves_volume(integrator, x64):
    """log |det| of the map (z, rho) is 0, with the limit at work in each step, so that the
    log-weight stays exact."""
    flow = HamiltonianFlow(
        3, 0.3, NullTempering(1.0), max_force=0.5, units="latent", integrator=integrator
    )

    def end(state):
        end = flow.transport(lambda z: (2.0 * z @ z, None), z=state[:2], gamma=state[2:])
        return jnp.concatenate([end.z, end.trajectory.rho_final])

    jacobian = jax.jacfwd(end)(jnp.array([1.0, -0.7, 0.3, 0.2]))
    assert float(jnp.linalg.slogdet(jacobian)[1]) == pytest.approx(0, abs=1e-12)


def test_a_limit_must_be_positive():
    with pytest.raises(ValueError, match="max_force must be finite and > 0, got 0"):
        HamiltonianFlow(2, max_force=0.0)


# The result


@pytest.mark.parametrize("num_steps", [0, 3])
def test_log_ratio_is_that_of_the_momenta(num_steps, x64):
    """log N(rho_K; 0, I / beta_K) - log N(rho_0; 0, I / beta_0) + log |det J|."""
    flow = HamiltonianFlow(num_steps, 0.2, QuadraticTempering(0.4))
    result = move(flow, draw(3, seed=1), draw(3, seed=2))
    path = result.trajectory

    def log_density(rho, beta):
        return jax.scipy.stats.norm.logpdf(rho, 0, beta**-0.5).sum()

    end, start = (
        log_density(path.rho_final, path.beta[-1]),
        log_density(path.rho_init, path.beta[0]),
    )
    wanted = end - start + path.log_det_jacobian
    np.testing.assert_allclose(result.log_ratio, wanted, rtol=0, atol=1e-13)
    assert (abs(result.log_ratio) > 0.01) == (num_steps > 0)
    np.testing.assert_array_equal(result.z, path.z_final)
