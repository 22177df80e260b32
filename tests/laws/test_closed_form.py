"""The closed-form ELBO of a linear-Gaussian HVAE, and its gradient: the strongest law.

It sees what unbiasedness cannot: a wrong gradient of U, a wrong power in a schedule, a stopped
gradient. The library's E[log w] is taken exactly: log w is a quadratic in the noise, so its mean
under N(0, I) is the mean of its values at the points +-e_i, weighted as below.
"""

import closed_form
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models_for_tests import METHODS, SCHEDULES, linear_gaussian, tempering
from scipy.stats import multivariate_normal

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import AbstractGradient, Reverse, with_aux
from hvax.hamiltonian.tempering import CustomTempering
from hvax.models.hvae import HVAE, HVAEOutputs
from hvax.parameter import Learned

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
    """What a draw gives for this noise (of z_0, then gamma), from the library's public parts."""
    x = jnp.asarray(X, noise.dtype)
    posterior = model.vae.posterior(x)
    z = posterior.mean + posterior.sigma * noise[:D]
    potential = model.vae.potential(x) if model.potential is None else model.potential(model.vae, x)
    phase = model.flow.transport(potential, z=z, gamma=noise[D:])
    joint = model.vae.log_joint(x, phase.z_final)
    return HVAEOutputs(
        encoder=posterior,
        decoder=joint.output,
        phase_space=phase,
        log_likelihood=joint.log_likelihood,
        log_prior=joint.log_prior,
        log_posterior=posterior.log_prob(z),
    )


def expectation(f):
    """E[f(u)], u ~ N(0, I_n), exact for a quadratic: f(0) and half the sum of second differences,
    which at distance one are second derivatives."""
    n = 2 * D
    values = jax.vmap(f)(jnp.concatenate([jnp.zeros((1, n)), jnp.eye(n), -jnp.eye(n)]))
    return (1 - n) * values[0] + jnp.sum(values[1:]) / 2


@eqx.filter_jit
@eqx.filter_value_and_grad
def library_elbo(model):
    return expectation(lambda noise: outputs(model, noise).log_weight)


def named(model):
    """The model's learned numbers (or its gradient) under the oracle's names."""
    vae, flow = model.vae, model.flow
    schedule = flow.tempering
    leaves = {
        "W": vae.decoder.network.weight,
        "b": vae.decoder.network.bias,
        "s": vae.decoder.likelihood.sigma.raw,
        "E": vae.encoder.mean.weight,
        "e": vae.encoder.mean.bias,
        "log_sigma": vae.encoder.log_sigma,
        "step_size": flow.step_size.raw,
        "schedule": (schedule.alpha if hasattr(schedule, "alpha") else schedule.beta0).raw,
    }
    return {name: np.asarray(leaf, np.float64) for name, leaf in leaves.items()}


# The oracle's side


def learned(raw, upper=1.0):
    """The map of MATHS.md, for complex numbers too."""
    return upper * (1e-4 + (1 - 1e-4) / (1 + np.exp(-raw)))


def case(numbers, schedule, num_steps):
    alpha = beta0 = learned(numbers["schedule"])
    return closed_form.Case(
        W=numbers["W"],
        b=numbers["b"],
        s=learned(numbers["s"], 2.0),
        x=X,
        mean=numbers["E"] @ X + numbers["e"],
        log_sigma=numbers["log_sigma"],
        step_size=learned(numbers["step_size"], UPPER),
        beta=closed_form.schedule(schedule, beta0, num_steps, alpha),
    )


def log_p_x(numbers):
    W, s = numbers["W"], learned(numbers["s"], 2.0)
    return multivariate_normal(numbers["b"], W @ W.T + s**2 * np.eye(FEATURES)).logpdf(X)


# E[log w] is about -5 and sums terms of up to ten: 1e-10 is DESIGN.md's figure, 1e-14 seen. The
# gradient of U by central differences is off by rounding alone on a quadratic, eps |U| / h = 4e-11
# |U| with |U| up to 30, and passes to E[log w] through forces and slopes of up to ten; by one-sided
# ones by h U'' / 2 = 1.5e-8 / 2 * 3, and as much again in the derivatives.
TOLERANCE = {"reverse": 1e-10, "forward": 1e-10, "central": 1e-8, "one-sided": 1e-6}

# A Latin square: every pair of (schedule, method, step-size shape) together, at K = 3; and each
# schedule at the other K.
CASES = [
    (name, method, list(SHAPES)[(i + j) % 4], 3)
    for i, name in enumerate(SCHEDULES)
    for j, method in enumerate(METHODS)
] + [
    (name, "reverse", shape, num_steps)
    for i, name in enumerate(SCHEDULES)
    for num_steps, shape in [(0, "()"), (1, list(SHAPES)[i % 4])]
]


@pytest.mark.parametrize("schedule, method, shape, num_steps", CASES)
def test_elbo_and_its_gradient(schedule, method, shape, num_steps, x64):
    model = hvae(schedule, method, shape, num_steps)
    numbers = named(model)
    value, slope = library_elbo(model)
    exact = closed_form.elbo(case(numbers, schedule, num_steps))
    assert exact < log_p_x(numbers) - 0.05
    np.testing.assert_allclose(value, exact, rtol=0, atol=TOLERANCE[method])

    truth = closed_form.derivatives(
        lambda numbers: closed_form.elbo(case(numbers, schedule, num_steps)), numbers
    )
    for name, found in named(slope).items():
        if num_steps > 0 or name not in ("step_size", "schedule"):
            assert np.max(abs(truth[name])) > 1e-3, name
        np.testing.assert_allclose(
            found, truth[name], rtol=0, atol=TOLERANCE[method], err_msg=name
        )
