"""The drawn way of a flow is the flow's own, and the log-weights along it are the model's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exact_posterior import exact
from hvax.batch import Batch
from hvax.evaluation.trajectories import hamiltonian_stages, paths
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import FiniteDifference
from hvax.hamiltonian.tempering import QuadraticTempering
from hvax.models.hvae import HVAE
from hvax.parameters import Learned
from laplace_posterior import LaplaceEncoder
from models_for_tests import (
    FAMILY,
    SCHEDULES,
    Affine,
    AffineEncoder,
    family,
    linear_gaussian,
    moving,
    tempering,
)
from settings_for_tests import but_slow, slow


def softened(vae, x):
    """A potential other than the model's."""
    return lambda z: (-0.5 * vae.log_joint(x, z).log_likelihood + 0.4 * (z @ z), None)


VAE = linear_gaussian()
X = jnp.asarray([0.4, -1.1, 0.7])
START = {"z": jnp.asarray([0.3, -0.8]), "gamma": jnp.asarray([-0.5, 1.2])}
STEPS = {
    "scalar": 0.2,
    "per dimension": np.array([0.1, 0.3]),
    "per step": np.array([[0.1], [0.2], [0.3]]),
    "per step and dimension": Learned(np.linspace(0.05, 0.4, 6).reshape(3, 2), upper=0.5),
}
MODELS = (
    {
        f"schedule {name}": HVAE(VAE, HamiltonianFlow(3, 0.2, tempering(name, 3)))
        for name in SCHEDULES
    }
    | {f"step size {name}": HVAE(VAE, HamiltonianFlow(3, step)) for name, step in STEPS.items()}
    | {"finite differences": HVAE(VAE, HamiltonianFlow(3, 0.2, gradient=FiniteDifference()))}
    | {"one step": moving(VAE, num_steps=1)}
    | {"another potential": HVAE(VAE, HamiltonianFlow(3, 0.2), potential=softened)}
    | {name: HVAE(VAE, family(name, 3)) for name in FAMILY}
    | {"no steps": HVAE(VAE, HamiltonianFlow(0, 0.2, QuadraticTempering(0.5)))}
)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_the_drawn_path_ends_where_the_flow_ends(model):
    """To rounding: the same operations, compiled apart."""
    follow = model.potential_for_flow or type(VAE).potential
    xi = jnp.ones((model.flow.num_steps, 2)) if model.flow.momentum.refreshes else None
    posterior = VAE.posterior(X)
    end = model.flow.transport(follow(VAE, X), **START, xi=xi, start=posterior)
    stages = hamiltonian_stages(model, Batch(X), posterior, **START, xi=xi)
    tolerance = 50 * jnp.finfo(X.dtype).eps
    assert stages.z.shape == (model.flow.num_steps + 1, 2)
    assert stages.log_ratio.shape == (model.flow.num_steps + 1,) and stages.log_ratio[0] == 0
    np.testing.assert_allclose(stages.z[0], START["z"], rtol=tolerance)
    np.testing.assert_allclose(stages.z[-1], end.z, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(stages.log_ratio[-1], end.log_ratio, atol=1e-5)
    errors = end.trajectory.energy_errors
    np.testing.assert_allclose(stages.energy_errors, errors, atol=20 * tolerance)


@pytest.mark.parametrize(
    "name",
    but_slow(
        (
            "schedule free",
            "step size per dimension",
            "another potential",
            "no steps",
            "uha",
            "dais",
        ),
        keep=("schedule free", "another potential", "no steps", "uha"),
    ),
)
def test_log_weights_along_the_path(name):
    """At stage K the model's own draw and log w, at stage 0 the encoder's alone: the same keys."""
    model, x = MODELS[name], np.stack([X, -X, 2 * X])
    key = jax.random.key(1)
    found = paths(
        model, Batch(jnp.asarray(x)), 100, key=key
    )  # 300 rows: more than one compiled call
    assert found.z.shape == (3, 100, model.flow.num_steps + 1, 2)
    assert found.energy_errors.shape == (3, 100, model.flow.num_steps)
    for i, j in ((0, 0), (1, 57), (2, 99)):
        one = jnp.asarray(x[i])
        posterior = VAE.posterior(one)
        own_key = jax.random.fold_in(jax.random.fold_in(key, i), j)
        drawn = model.draw(posterior, one, key=own_key)
        tolerance = {"rtol": 0, "atol": 2e3 * jnp.finfo(one.dtype).eps}
        np.testing.assert_allclose(found.log_weight[i, j, -1], drawn.log_weight, **tolerance)
        np.testing.assert_allclose(found.z[i, j, -1], drawn.z, rtol=1e-4)
        np.testing.assert_allclose(found.z[i, j, 0], drawn.z_init, rtol=1e-5)
        start = VAE.log_joint(one, drawn.z_init)
        alone = start.log_likelihood + start.log_prior - posterior.log_prob(drawn.z_init)
        np.testing.assert_allclose(found.log_weight[i, j, 0], alone, **tolerance)
        np.testing.assert_allclose(found.mean[i], posterior.mean, rtol=1e-5)
        np.testing.assert_allclose(found.sigma[i], posterior.sigma, rtol=1e-5)


@pytest.mark.parametrize("gaussian", [True, False], ids=["gaussian", "laplace"])
@pytest.mark.parametrize("annealed", [slow(False), True], ids=["hvae", "annealed"])
def test_every_stage_is_a_bound(annealed, gaussian, x64):
    """E[exp(log w_k)] = p(x) at each stage, to 4.5 standard errors of 20,000 draws, from a
    proposal somewhat wider than the posterior, so that the weights are bounded. Draws of a Gaussian
    that are scored as a Laplace's miss it by 22 standard errors at stage 0."""
    vae, x = linear_gaussian(), np.asarray(X, np.float64)
    log_p, mean, covariance = exact(vae, x)
    wider = 1.3 * jnp.sqrt(jnp.linalg.eigvalsh(jnp.asarray(covariance)).max())
    if gaussian:
        centered = Affine(jnp.zeros((2, 3)), jnp.asarray(mean))
        encoder = AffineEncoder(centered, jnp.full(2, jnp.log(wider)))
    else:
        encoder = LaplaceEncoder(jnp.asarray(mean), jnp.full(2, wider))
    flow = HamiltonianFlow(3, 0.3, QuadraticTempering(0.5))
    flow = family("everything", 3) if annealed else flow
    model = HVAE(type(vae)(encoder, vae.decoder), flow)
    found = paths(model, Batch(jnp.asarray(x[None])), 20_000, key=jax.random.key(0))
    ratio = np.exp(found.log_weight[0] - log_p)
    error = ratio.std(axis=0) / np.sqrt(len(ratio))
    assert np.all(error < 0.01)
    np.testing.assert_array_less(np.abs(ratio.mean(axis=0) - 1), 4.5 * error)


def test_a_plain_vae_goes_nowhere():
    found = paths(VAE, Batch(X[None]), 4, key=jax.random.key(0))
    assert found.z.shape == (1, 4, 1, 2)
    assert found.energy_errors.shape == (1, 4, 0)
    assert found.log_weight.shape == (1, 4, 1)
