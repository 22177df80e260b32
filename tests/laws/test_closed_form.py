"""The closed-form ELBO of a linear-Gaussian HVAE, and its gradient: the strongest law.

It sees what unbiasedness cannot: a wrong gradient of U, a wrong power in a schedule, a stopped
gradient. The library's E[log w] is taken exactly: log w is a quadratic in the noise, so its mean
under N(0, I) is known once its coefficients are, and they are differences of its values.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import closed_form
from hvax.hamiltonian import bridge, path
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import with_aux
from hvax.hamiltonian.momentum import AbstractMomentum, GaussianMomentum
from hvax.hamiltonian.presets import PRESETS
from hvax.hamiltonian.step_size import AffineStepSize
from hvax.hamiltonian.tempering import CustomTempering, FreeTempering
from hvax.models.decoder import Decoder
from hvax.models.hvae import HVAE
from hvax.models.latent_model import Draw
from hvax.models.likelihood import FixedGaussian
from hvax.models.vae import VAE
from hvax.parameters import Learned
from models_for_tests import (
    FAMILY,
    IN_LATENT_UNITS,
    METHODS,
    QUICK_COMPILE,
    SCHEDULES,
    Affine,
    AffineEncoder,
    Stopped,
    family,
    linear_gaussian,
    tempering,
)
from settings_for_tests import but_slow

D, FEATURES, UPPER = 2, 3, 0.5
X = np.array([0.7, -1.1, 0.4])
SHAPES = {"()": lambda K: (), "(d,)": lambda K: (D,), "(K,1)": lambda K: (K, 1)} | {
    "(K,d)": lambda K: (K, D)
}


def hvae(schedule, method, shape, num_steps, **kwargs):
    """Every number learned; the step sizes about 0.2, some 0.3 posterior sd a step."""
    sizes = np.random.default_rng(1).uniform(0.1, 0.3, size=SHAPES[shape](num_steps))
    flow = HamiltonianFlow(
        num_steps,
        Learned(sizes, upper=UPPER),
        tempering(schedule, num_steps, learned=True),
        METHODS[method] if isinstance(method, str) else method,
    )
    return HVAE(linear_gaussian(D, FEATURES), flow, **kwargs)


# The library's side


def outputs(model, noise):
    """What a draw gives for this noise (of z_0, gamma, xi), from the library's public parts."""
    x = jnp.asarray(X, noise.dtype)
    posterior = model.vae.posterior(x)
    z = posterior.mean + posterior.sigma * noise[:D]
    own = model.potential_for_flow
    potential = model.potential(x) if own is None else own(model.vae, x)
    end = model.flow.transport(
        potential,
        z=z,
        gamma=noise[D : 2 * D],
        xi=noise[2 * D :].reshape(-1, D),
        start=posterior,
    )
    joint, log_posterior = model.log_joint(x, end.z), posterior.log_prob(z)
    return Draw(
        posterior=posterior,
        output=joint.output,
        z_init=z,
        z=end.z,
        log_weight=joint.log_likelihood + joint.log_prior - log_posterior + end.log_ratio,
        log_likelihood=joint.log_likelihood,
        log_prior=joint.log_prior,
        log_posterior=log_posterior,
        trajectory=end.trajectory,
    )


def polynomial(f, n):
    """(a, g, H) of a quadratic f(u) = a + g'u + u'Hu / 2 of n numbers, from its values at 0, +-e_i,
    e_i + e_j.

    Differences at distance one are derivatives, whatever f's own differentiability.
    """
    e = jnp.eye(n)
    pairs = (e[:, None] + e[None]).reshape(-1, n)
    values = jax.vmap(f)(jnp.concatenate([jnp.zeros((1, n)), e, -e, pairs]))
    a, (plus, minus), both = values[0], values[1 : 1 + 2 * n].reshape(2, -1), values[1 + 2 * n :]
    H = both.reshape(e.shape) - plus[:, None] - plus[None] + a
    H = H.at[jnp.diag_indices(n)].set(plus + minus - 2 * a)
    return a, (plus - minus) / 2, H


def library(model, *, compile_options=QUICK_COMPILE):
    """E[log w], the polynomial log w, and the gradient of E[log w] in everything learned."""

    flow = model.flow
    n = D * (2 + flow.num_steps if flow.momentum.refreshes else 2)

    @eqx.filter_value_and_grad(has_aux=True)
    def elbo(model):
        a, g, H = polynomial(lambda noise: outputs(model, noise).log_weight, n)
        return a + jnp.trace(H) / 2, (a, g, H)

    (value, log_w), slope = eqx.filter_jit(elbo, compiler_options=compile_options)(model)
    return value, jax.tree.map(np.asarray, log_w), named(slope)


def named(model):
    """The model's learned numbers (or its gradient) under the oracle's names."""
    vae, flow = model.vae, model.flow
    schedule, step_size = flow.tempering, flow.step_size
    leaves = {
        "W": vae.decoder.network.weight,
        "b": vae.decoder.network.bias,
        "s": vae.decoder.likelihood.sigma.raw,
        "E": vae.encoder.mean.weight,
        "e": vae.encoder.mean.bias,
        "log_sigma": vae.encoder.log_sigma,
    }
    if isinstance(step_size, AffineStepSize):
        leaves |= {"at_start": step_size.at_start.raw, "at_end": step_size.at_end.raw}
    else:
        leaves["step_size"] = step_size.raw
    scaling = schedule.alpha if isinstance(schedule, FreeTempering) else schedule.beta0
    for name, parameter in (
        ("schedule", scaling),
        ("bridge", flow.bridge),
        ("eta", flow.eta),
        ("mass", flow.mass),
    ):
        if hasattr(parameter, "raw"):
            leaves[name] = parameter.raw
    return {name: np.asarray(leaf, np.float64) for name, leaf in leaves.items()}


# The oracle's side


def learned(raw, upper=1.0):
    """The map of MATHS.md, for complex numbers too."""
    return upper * (1e-4 + (1 - 1e-4) / (1 + np.exp(-raw)))


def model_on_paper(numbers):
    return closed_form.Case(
        W=numbers["W"],
        b=numbers["b"],
        s=learned(numbers["s"], 2.0),
        x=X,
        mean=numbers["E"] @ X + numbers["e"],
        log_sigma=numbers["log_sigma"],
        step_size=None,
        beta=None,
    )


def case(numbers, schedule, num_steps):
    alpha = beta0 = learned(numbers["schedule"])
    return model_on_paper(numbers)._replace(
        step_size=learned(numbers["step_size"], UPPER),
        beta=closed_form.schedule(schedule, beta0, num_steps, alpha),
    )


def rising(raw):
    """The map of LearnedBridge."""
    n = len(raw)
    return np.cumsum(1e-4 + (1 - n * 1e-4) * np.exp(raw) / np.sum(np.exp(raw)))[:-1]


def member_case(numbers, name, num_steps):
    """A flow of models_for_tests.family on paper."""
    everything = name.startswith("everything")
    b = rising(numbers["bridge"]) if "bridge" in numbers else None
    if everything:
        start, end = (learned(numbers[key], 1.5) for key in ("at_start", "at_end"))
        step_size = start + b[:, None] * (end - start)
    else:
        step_size = learned(numbers["step_size"], 1.5)
    if name not in IN_LATENT_UNITS:
        step_size = step_size * np.exp(numbers["log_sigma"])
    beta0 = learned(numbers["schedule"]) if "schedule" in numbers else 1.0
    held = None if everything or PRESETS[name].eta == 1 else PRESETS[name].eta
    return model_on_paper(numbers)._replace(
        step_size=step_size,
        beta=closed_form.schedule("quadratic", beta0, num_steps),
        bridge=b,
        eta=learned(numbers["eta"]) if "eta" in numbers else held,
        leapfrog_steps=2 if everything else 1,
        mass=learned(numbers["mass"], 4.0) if everything else 1.0,
        position=name == "everything by position"
        or (not everything and PRESETS[name].integrator == "position"),
    )


def log_p_x(numbers):
    W, s = numbers["W"], learned(numbers["s"], 2.0)
    return multivariate_normal(numbers["b"], W @ W.T + s**2 * np.eye(FEATURES)).logpdf(X)


# E[log w] is about -5 and sums terms of up to ten: 2e-14 seen. Central differences of a quadratic U
# are off by rounding alone, eps |U| / h = 4e-11 |U| with |U| up to 30, and pass to E[log w] through
# slopes of order one: 1e-10 seen. One-sided ones are off by h U'' / 2 = 1.5e-8 / 2 * 3, and so are
# their derivatives: 2e-7 seen.
TOLERANCE = {"reverse": 1e-12, "forward": 1e-12, "central": 5e-9, "one-sided": 5e-6}

# Each schedule at each K, the step-size shapes in turn; each method on two schedules.
SHAPES_IN_TURN = list(SHAPES) * 3
CASES = [
    pytest.param(
        name,
        "reverse",
        SHAPES_IN_TURN[i + num_steps],
        num_steps,
        marks=[pytest.mark.slow] if num_steps == 1 else [],
    )
    for i, name in enumerate(SCHEDULES)
    for num_steps in (0, 1, 3)
] + [
    (name, method, shape, 3)
    for method in ("forward", "central", "one-sided")
    for name, shape in [("quadratic", "(K,d)"), ("free", "(d,)")]
]


@pytest.mark.parametrize("schedule, method, shape, num_steps", CASES)
def test_elbo_its_gradient_and_the_contract(schedule, method, shape, num_steps, x64):
    """E[log w], its derivatives in everything learned, and E[w] = p(x), all without a sample."""
    model, tolerance = hvae(schedule, method, shape, num_steps), TOLERANCE[method]
    numbers = named(model)
    value, log_w, slope = library(model)
    exact = closed_form.elbo(case(numbers, schedule, num_steps))
    assert exact < log_p_x(numbers) - 0.05  # the bound is not tight: the draws differ
    np.testing.assert_allclose(value, exact, rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        closed_form.log_moment(log_w), log_p_x(numbers), rtol=0, atol=tolerance
    )

    truth = closed_form.derivatives(
        lambda numbers: closed_form.elbo(case(numbers, schedule, num_steps)), numbers
    )
    for name, expected in truth.items():
        if num_steps > 0 or name not in ("step_size", "schedule"):
            assert np.max(abs(expected)) > 1e-3, name
        np.testing.assert_allclose(slope[name], expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("num_steps", but_slow((1, 3), keep=(3,)))
@pytest.mark.parametrize("name", FAMILY)
def test_every_member_of_the_family(name, num_steps, x64):
    """The same, of the annealed flows: bridge, refreshment, mass and affine step sizes included."""
    model = HVAE(linear_gaussian(D, FEATURES), family(name, num_steps))
    numbers = named(model)
    value, log_w, slope = library(model)

    def on_paper(numbers):
        return closed_form.elbo(member_case(numbers, name, num_steps))

    assert on_paper(numbers) < log_p_x(numbers) - 0.05
    np.testing.assert_allclose(value, on_paper(numbers), rtol=0, atol=1e-12)
    np.testing.assert_allclose(closed_form.log_moment(log_w), log_p_x(numbers), rtol=0, atol=1e-12)
    truth = closed_form.derivatives(on_paper, numbers)
    for leaf, expected in truth.items():
        # The first refreshment replaces one draw from N(0, I / beta_0) by another.
        assert np.max(abs(expected)) > 1e-3 or (leaf == "eta" and num_steps == 1), leaf
        np.testing.assert_allclose(slope[leaf], expected, rtol=0, atol=1e-12, err_msg=leaf)


class Guided(AbstractMomentum):
    """Forward and reverse kernels that differ, both with means that look at z:

    F(rho' | rho) = N(eta rho + v z / 3, v / beta),  v = 1 - eta^2
    R(rho | rho') = N(eta rho' + v (share rho' - z / 5), v / beta)
    """

    share: float = 0.1
    eta: float = 0.6
    refreshes: bool = True

    def start(self, gamma, beta):
        return gamma / jnp.sqrt(beta), -0.5 * (gamma @ gamma)

    def log_density(self, rho, beta):
        return -0.5 * beta * (rho @ rho)

    def refresh(self, rho, xi, *, z, k, beta, start):
        v = 1 - self.eta**2
        fresh = self.eta * rho + v * z / 3 + jnp.sqrt(v / beta) * xi
        off = rho - self.eta * fresh - v * (self.share * k * fresh - z / 5)
        return fresh, 0.5 * (xi @ xi - beta / v * (off @ off))


@pytest.mark.parametrize("share", [0.1, 0.0])
def test_a_momentum_kernel_keeps_the_contract(share, x64):
    """E[w] = p(x), to rounding, for kernels that are no inverse of each other; and what the kernel
    is moves the bound."""
    flow = family("everything", 3, eta=None, momentum=Guided(share))
    model = HVAE(linear_gaussian(D, FEATURES), flow)
    value, log_w, _ = library(model)
    log_p = log_p_x(named(model))
    np.testing.assert_allclose(closed_form.log_moment(log_w), log_p, rtol=0, atol=1e-11)
    assert value < log_p - 0.05


def test_the_oracle_is_normalized():
    """The polynomial on paper has E[w] = p(x) as well."""
    with jax.enable_x64(True):
        numbers = named(hvae("quadratic", "reverse", "(d,)", 3))
    on_paper = closed_form.log_weight(case(numbers, "quadratic", 3))
    np.testing.assert_allclose(closed_form.log_moment(on_paper), log_p_x(numbers), rtol=1e-13)


@pytest.mark.parametrize("num_steps", [0, 3])
def test_the_models_own_draw_is_this_one(num_steps, x64):
    """HVAE.__call__ on a key equals the parts above on the same noise."""
    model = hvae("quadratic", "reverse", "()", num_steps)
    draw = eqx.filter_jit(lambda model, x: model(x, key=jax.random.key(0), latent=True))
    drawn = draw(model, jnp.asarray(X))
    posterior, phase = drawn.posterior, drawn.trajectory
    noise = jnp.concatenate([(phase.z_init - posterior.mean) / posterior.sigma, phase.gamma])
    ours = eqx.filter_jit(outputs)(model, noise)
    for a, b in zip(jax.tree.leaves(drawn), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    np.testing.assert_allclose(drawn.log_weight, ours.log_weight, rtol=0, atol=1e-12)


def test_the_exact_posterior_gives_log_p_x_at_every_draw(x64):
    """K = 0 and q(z | x) = p(z | x), which is diagonal where W has orthogonal columns."""
    W, b, s = np.array([[1.0, 0.5], [-1.0, 0.5], [0.0, 2.0]]), np.array([0.1, 0.2, 0.3]), 0.8
    precision = 1 + np.sum(W**2, axis=0) / s**2
    encoder = AffineEncoder(
        Affine(jnp.asarray((W / precision / s**2).T), jnp.asarray(-(W / precision).T @ b / s**2)),
        jnp.asarray(-0.5 * np.log(precision)),
    )
    vae = VAE(encoder, Decoder(Affine(jnp.asarray(W), jnp.asarray(b)), FixedGaussian(s)))
    truth = multivariate_normal(b, W @ W.T + s**2 * np.eye(3)).logpdf(X)
    for model in (vae, HVAE(vae, HamiltonianFlow(0))):
        keys = jax.random.split(jax.random.key(0), 5)
        draw = eqx.filter_jit(jax.vmap(lambda key, m=model: m.log_weight(jnp.asarray(X), key=key)))
        log_w = draw(keys)
        np.testing.assert_allclose(log_w, np.full(5, truth), rtol=1e-13)


# What the law sees, and unbiasedness does not: under each error E[w] = p(x) to rounding.


def prior_alone(vae, x):
    """A potential that never sees the likelihood: its gradient is z."""
    return with_aux(lambda z: -vae.prior.log_prob(z))


def plus_two(beta0, k, num_steps):
    """The quadratic schedule with the power +2."""
    return ((1 - 1 / jnp.sqrt(beta0)) * (k / num_steps) ** 2 + 1 / jnp.sqrt(beta0)) ** 2


def swap_schedule(model, schedule):
    return eqx.tree_at(
        lambda m: m.flow.tempering, model, CustomTempering(schedule, model.flow.tempering.beta0)
    )


@pytest.mark.parametrize("planted", ["stopped gradient", "prior alone", "power +2"])
def test_the_law_sees(planted, x64):
    """By how much, where 1e-12 is allowed: a stopped gradient 0.77 in a derivative, 0.2 or more in
    every number's, at an equal value; a potential without the likelihood 1.36 nats; the power +2
    0.18 nats."""
    method = Stopped() if planted == "stopped gradient" else "reverse"
    potential = prior_alone if planted == "prior alone" else None
    model = hvae("quadratic", method, "(d,)", 3, potential=potential)
    numbers = named(model)
    if planted == "power +2":
        model = swap_schedule(model, plus_two)
    value, log_w, slope = library(model)
    np.testing.assert_allclose(closed_form.log_moment(log_w), log_p_x(numbers), rtol=0, atol=1e-12)

    def on_paper(numbers):
        return closed_form.elbo(case(numbers, "quadratic", 3))

    off_value = abs(value - on_paper(numbers))
    truth = closed_form.derivatives(on_paper, numbers)
    off_slope = max(np.max(abs(slope[name] - truth[name])) for name in truth)
    if planted == "stopped gradient":
        assert off_value < 1e-12 and off_slope > 0.1
    else:
        assert off_value > 0.1


def no_bridge(b, ends):
    return bridge.between(1.0, ends)


def hot(self, rho, xi, *, beta, refresh=GaussianMomentum.refresh, **place):
    """A refreshment from N(0, I), whatever the temperature."""
    fresh, _ = refresh(self, rho, xi, beta=jnp.ones_like(beta), **place)
    return fresh, 0.5 * beta * (fresh @ fresh - rho @ rho)


def unscored(self, rho, xi, *, refresh=GaussianMomentum.refresh, **place):
    """A refreshment whose densities do not enter log w."""
    return refresh(self, rho, xi, **place)[0], jnp.zeros(())


@pytest.mark.parametrize("planted", ["stopped gradient", "no bridge", "hot", "unscored"])
def test_the_law_sees_in_the_family(planted, monkeypatch, x64):
    """By how much, where 1e-12 is allowed: a stopped gradient 0.1 or more in a derivative; a bridge
    that is not followed 0.1 nats, at E[w] = p(x); refreshments that are drawn from another density
    than they are scored under, or not scored, 0.01 nats or more in log E[w]."""
    options = {"gradient": Stopped()} if planted == "stopped gradient" else {}
    if planted == "no bridge":
        monkeypatch.setattr(path, "between", no_bridge)
    if planted in ("hot", "unscored"):
        wrong = {"hot": hot, "unscored": unscored}[planted]
        monkeypatch.setattr(GaussianMomentum, "refresh", wrong)
    model = HVAE(linear_gaussian(D, FEATURES), family("everything", 3, **options))
    numbers = named(model)
    value, log_w, slope = library(model)

    def on_paper(numbers):
        return closed_form.elbo(member_case(numbers, "everything", 3))

    off_contract = abs(closed_form.log_moment(log_w) - log_p_x(numbers))
    off_value = abs(value - on_paper(numbers))
    truth = closed_form.derivatives(on_paper, numbers)
    off_slope = max(np.max(abs(slope[name] - truth[name])) for name in truth)
    if planted == "stopped gradient":
        assert off_contract < 1e-12 and off_value < 1e-12 and off_slope > 0.1
    elif planted == "no bridge":
        assert off_contract < 1e-12 and off_value > 0.1
    else:
        assert off_contract > 0.01 and off_value > 0.01
