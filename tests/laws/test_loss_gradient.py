"""The gradient of every objective against a central difference through the whole flow, in float64.

Training differentiates through grad U, so this is where a stopped gradient shows: as MATHS.md says,
one random direction per leaf and ten joint ones, h = 1e-5, agreement to 1e-6 of
max(|g.v|, |g||v| / 100).
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.models.decoder import Decoder
from hvax.models.heads import SplitGaussian
from hvax.models.hvae import HVAE
from hvax.models.likelihood import (
    Bernoulli,
    Categorical,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
)
from hvax.models.network import MLP, mlp
from hvax.models.vae import VAE
from hvax.objectives import elbo, hamiltonian_elbo, importance_weighted_bound, loss
from hvax.parameters import Learned, trainable
from models_for_tests import FAMILY, QUICK_COMPILE, SCHEDULES, Stopped, family, tempering
from settings_for_tests import but_slow

D, FEATURES, BATCH, K = 2, 6, 3, 2

rng = np.random.default_rng(0)
BITS = rng.integers(0, 2, size=(BATCH, FEATURES)).astype(float)
REALS = rng.normal(size=(BATCH, FEATURES))
COUNTS = rng.poisson(3.0, size=(BATCH, FEATURES)).astype(float)
ONE_HOT = np.eye(3)[rng.integers(0, 3, size=(BATCH, 2))]

# name: (likelihood, data); "split" has two networks in the place of one trunk with two heads.
DATA = {
    "bernoulli": (Bernoulli(), BITS),
    "fixed sigma": (None, REALS),  # a learned number, made when the dtype is known
    "joint": (LearnedGaussian(), REALS),
    "split": (LearnedGaussian(), REALS),
    "categorical": (Categorical(3), ONE_HOT),
    "poisson": (Poisson(), COUNTS),
    "negative binomial": (NegativeBinomial(), COUNTS),
}


def vae(name):
    likelihood, x = DATA[name]
    if name == "fixed sigma":
        likelihood = FixedGaussian(Learned(0.7, upper=3.0))
    encoder, decoder = mlp(
        x.shape[1:], D, hidden=(4,), likelihood=likelihood, key=jax.random.key(0)
    )
    if name == "split":
        mean_key, sigma_key = jax.random.split(jax.random.key(1))
        networks = [MLP((D,), (FEATURES,), (3,), key=key) for key in (mean_key, sigma_key)]
        decoder = Decoder(SplitGaussian(*networks), LearnedGaussian())
    return VAE(encoder, decoder)


def hvae(name="bernoulli", schedule="quadratic", shape=(D,), gradient="reverse"):
    sizes = np.random.default_rng(1).uniform(0.1, 0.3, size=shape)
    flow = HamiltonianFlow(
        K, Learned(sizes, upper=0.5), tempering(schedule, K, learned=True), gradient
    )
    return HVAE(vae(name), flow)


def differences(objective, model, *data):
    """(g.v, the central difference along v, |g|) for one unit direction per leaf and ten joint."""
    parameters, rest = eqx.partition(model, trainable(model))
    theta, unravel = ravel_pytree(parameters)
    sizes = [leaf.size for leaf in jax.tree.leaves(parameters)]
    draw = np.random.default_rng(2)
    per_leaf = np.repeat(np.eye(len(sizes)), sizes, axis=1) * draw.normal(size=theta.size)
    v = np.concatenate([per_leaf, draw.normal(size=(10, theta.size))])
    v, h = v / np.linalg.norm(v, axis=1, keepdims=True), 1e-5
    data = [jnp.asarray(x) for x in data]

    def f(theta):
        return objective(eqx.combine(unravel(theta), rest), *data, key=jax.random.key(3))

    # One program for all: the gradient at theta, and the values on either side of it.
    points = np.asarray(theta) + h * np.concatenate([0 * v[:1], v, -v])
    mapped = jax.jit(
        lambda points: jax.lax.map(jax.value_and_grad(f), points), compiler_options=QUICK_COMPILE
    )
    values, gradients = (np.asarray(out) for out in mapped(jnp.asarray(points)))
    ahead, behind = np.split(values[1:], 2)
    return v @ gradients[0], (ahead - behind) / (2 * h), np.linalg.norm(gradients[0])


def agree(objective, model, *data):
    along, difference, norm = differences(objective, model, *data)
    assert np.all(abs(difference) > 1e-7 * norm), "a leaf does not move the loss"
    # Truncation h^2 and rounding eps |f| / h are 1e-10 and 1e-9 for a loss of 50 nats.
    return np.all(abs(along - difference) <= 1e-6 * np.maximum(abs(along), norm / 100))


SHAPES = [(), (D,), (K, 1), (K, D)]
CASES = [(name, SCHEDULES[i % 5], SHAPES[i % 4]) for i, name in enumerate(DATA)]


@pytest.mark.parametrize("name, schedule, shape", CASES)
def test_loss(name, schedule, shape, x64):
    """Every likelihood, every schedule and every step-size shape, with everything learned."""
    assert agree(loss, hvae(name, schedule, shape), DATA[name][1])


@pytest.mark.parametrize(
    "objective",
    [
        hamiltonian_elbo,
        partial(importance_weighted_bound, num_samples=3),
        partial(
            loss,
            logp_prefactor=(0.9, 1.2, 0.7),
            logq_prefactor=(1.1, 0.6, 1.3),
            reg_function=lambda outputs, power: jnp.mean(outputs.posterior.mean**power),
            reg_kwargs={"power": 2},
            reg_strength=3.0,
            kl="analytic",
        ),
    ],
    ids=["elbo", "importance weighted", "loss with every option"],
)
def test_the_other_objectives_of_an_hvae(objective, x64):
    assert agree(objective, hvae(), BITS)


@pytest.mark.parametrize(
    "objective",
    [partial(elbo, kl="analytic"), partial(loss, kl="sampled", kl_weight=0.7)],
    ids=["elbo", "loss"],
)
def test_the_objectives_of_a_vae(objective, x64):
    assert agree(objective, vae("bernoulli"), BITS)


@pytest.mark.parametrize("name", but_slow(FAMILY, keep=("everything", "everything by position")))
def test_every_member_of_the_family(name, x64):
    """With bridge, eta, mass and affine step sizes learned."""
    assert agree(loss, HVAE(vae("bernoulli"), family(name, K)), BITS)


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("model", ["vae", "uha"])
def test_losses_of_several_draws(model, num_samples, x64):
    plain = vae("bernoulli")
    if model == "vae":
        assert agree(partial(loss, num_samples=num_samples, kl="sampled"), plain, BITS)
    else:
        flowed = HVAE(plain, family("uha", K))
        assert agree(partial(loss, num_samples=num_samples), flowed, BITS)


def test_forward_mode_and_two_arguments(x64):
    """The encoder sees one array, the flow and the likelihood another."""
    assert agree(loss, hvae(gradient="forward"), REALS, BITS)


def test_the_test_sees_a_stopped_gradient(x64):
    """A flow whose grad U is a constant to training: every direction is off, by 0.004 to 7 of its
    scale (the median 0.2), where 1e-6 is allowed."""
    along, difference, norm = differences(loss, hvae(gradient=Stopped()), BITS)
    off = abs(along - difference) / np.maximum(abs(along), norm / 100)
    assert np.min(off) > 1e-3 and np.median(off) > 0.1
