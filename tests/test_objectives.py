"""Batches of log-weights into bounds and losses."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jaxtyping import TypeCheckError
from scipy.special import logsumexp

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.models.decoder import Decoder
from hvax.models.draw_batch import draw_batch
from hvax.models.hamiltonian_terms import log_p_terms, log_q_terms
from hvax.models.hvae import HVAE
from hvax.models.likelihood import AbstractLikelihood, Bernoulli, FixedGaussian
from hvax.models.network import mlp
from hvax.models.prior import AbstractPrior
from hvax.models.vae import VAE
from hvax.objectives import (
    elbo,
    finite_or_zero_weight,
    hamiltonian_elbo,
    importance_weighted_bound,
    loss,
)
from hvax.parameters import trainable
from models_for_tests import QUICK_COMPILE, Affine, AffineEncoder, family, linear_gaussian
from settings_for_tests import slow

pytestmark = pytest.mark.usefixtures("x64")

X = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]], np.uint8)
FLOW = HamiltonianFlow.reference(2, step_size=0.2)


def key():
    """A fresh key for the same noise."""
    return jax.random.key(7)


def vae(*, prior=None, likelihood=None) -> VAE:
    encoder, decoder = mlp((3,), 2, hidden=(4,), key=jax.random.key(0))
    return VAE(encoder, Decoder(decoder.network, likelihood or Bernoulli()), prior)


@pytest.fixture
def model() -> HVAE:
    return HVAE(vae(), FLOW)


compiled_draws = eqx.filter_jit(draw_batch)
compiled_bound = eqx.filter_jit(importance_weighted_bound)
compiled_elbo = eqx.filter_jit(hamiltonian_elbo)


def log_weights(model, x, **options) -> np.ndarray:
    outputs = compiled_draws(model, x, **options)
    return np.asarray(jax.vmap(lambda one: one.log_weight)(outputs))


def diagonal_exact() -> tuple[VAE, jax.Array]:
    """A linear model whose posterior is diagonal, with it as the encoder, and one data point."""
    W, b, sigma = np.array([[1.0, 0.5], [-1.0, 0.5], [0.0, 2.0]]), np.array([0.1, 0.2, 0.3]), 0.8
    precision = 1 + np.sum(W**2, axis=0) / sigma**2
    gain = (W / precision / sigma**2).T
    encoder = AffineEncoder(
        Affine(jnp.asarray(gain), jnp.asarray(-gain @ b)), jnp.asarray(-0.5 * np.log(precision))
    )
    decoder = Decoder(Affine(jnp.asarray(W), jnp.asarray(b)), FixedGaussian(sigma))
    return VAE(encoder, decoder), jnp.asarray([[0.7, -1.1, 0.4]])


class Failing(AbstractLikelihood):
    """Bernoulli, but NaN wherever the decoder's first logit is above -0.25: for some draws of a
    data point and not for others."""

    def log_prob(self, output, x):
        return jnp.where(output[0] > -0.25, jnp.nan, Bernoulli().log_prob(output, x))

    def mean(self, output):
        return output

    def sample(self, output, *, key):
        return output

    def check(self, x):
        pass


class Wide(AbstractPrior):
    """N(0, 9 I)."""

    def log_prob(self, z):
        return jnp.sum(jax.scipy.stats.norm.logpdf(z, 0.0, 3.0))

    def sample(self, latent_size, *, key):
        return 3 * jax.random.normal(key, (latent_size,))


# Forward passes


def test_example_i_draws_from_the_ith_key(model):
    batched = compiled_draws(model, X, key=key())
    keys = jax.random.split(key(), len(X))
    one = eqx.filter_jit(model)(jnp.asarray(X[2]), key=keys[2], latent=True)
    for row, leaf in zip(jax.tree.leaves(batched), jax.tree.leaves(one), strict=True):
        assert row.shape == (len(X), *leaf.shape)
        np.testing.assert_allclose(row[2], leaf, rtol=0, atol=1e-13)


def test_a_batch_of_one(model):
    assert jax.eval_shape(lambda: draw_batch(model, X[:1], key=key())).log_prior.shape == (1,)


@pytest.mark.parametrize(
    ("x", "target", "said"),
    [
        (X[:0], None, r"at least one example, got shape \(0, 3\)"),
        (X, X[:3], "target"),
        (np.float32(1), None, "batch"),
    ],
)
def test_what_is_no_batch_is_refused(x, target, said):
    # The suite's type checker is the first to refuse all but the empty batch.
    with pytest.raises((ValueError, TypeCheckError), match=said):
        draw_batch(vae(), x, target, key=key())


def test_a_single_example_where_a_batch_belongs_is_refused():
    with pytest.raises(ValueError, match=r"must have shape \(3,\), got \(\)"):
        hamiltonian_elbo(vae(), X[0], key=key())


# Bounds


def test_the_elbo_is_the_mean_log_weight(model):
    value, outputs = compiled_elbo(model, X, key=key(), return_draws=True)
    log_w = np.asarray(jax.vmap(lambda one: one.log_weight)(outputs))
    assert log_w.shape == (len(X),) and value.shape == ()
    np.testing.assert_allclose(value, log_w.mean(), rtol=1e-13)


def test_the_elbo_scores_x_out():
    value = compiled_elbo(vae(), X, 1 - X, key=key())
    np.testing.assert_allclose(
        value, log_weights(vae(), X, target=1 - X, key=key()).mean(), rtol=1e-13
    )
    assert abs(value - log_weights(vae(), X, key=key()).mean()) > 1e-3


def test_importance_weighted_bound_is_its_formula():
    bound = compiled_bound(vae(), X, key=key(), num_samples=3)
    draws = [log_weights(vae(), X, key=k) for k in jax.random.split(key(), 3)]
    exact = (logsumexp(draws, axis=0) - np.log(3)).mean()
    np.testing.assert_allclose(bound, exact, rtol=0, atol=1e-13)


def test_one_importance_sample_is_the_elbo():
    bound = compiled_bound(vae(), X, key=key(), num_samples=1)
    exact = log_weights(vae(), X, key=key()).mean()
    np.testing.assert_allclose(bound, exact, rtol=0, atol=1e-13)


def test_no_samples_are_refused(model):
    with pytest.raises(ValueError, match="num_samples must be >= 1, got 0"):
        importance_weighted_bound(model, X, key=key(), num_samples=0)


# Losses of several draws


@pytest.mark.parametrize("annealed", [False, True])
def test_several_draws_are_those_of_their_keys(annealed, model):
    """The encoder runs once for all of them; the numbers are those of one draw each."""
    model = HVAE(model.vae, family("uha", 2)) if annealed else model
    outputs = compiled_draws(model, X, 1 - X, key=key(), num_samples=3)
    log_w = jax.vmap(jax.vmap(lambda one: one.log_weight))(outputs)
    draws = [log_weights(model, X, target=1 - X, key=k) for k in jax.random.split(key(), 3)]
    np.testing.assert_allclose(log_w, draws, rtol=0, atol=1e-13)


def test_a_loss_of_several_draws_is_the_bound_s(model):
    bound = compiled_bound(model, X, key=key(), num_samples=3)
    value, outputs = loss(model, X, key=key(), num_samples=3, return_draws=True)
    np.testing.assert_allclose(value, -bound, rtol=0, atol=1e-13)
    assert outputs.log_likelihood.shape == (3, len(X))
    plain = compiled_bound(model.vae, X, key=key(), num_samples=3)
    np.testing.assert_allclose(
        loss(model.vae, X, key=key(), num_samples=3), -plain, rtol=0, atol=1e-13
    )


def test_an_analytic_kl_is_for_one_draw(model):
    for options in ({"num_samples": 2}, {"estimator": "dreg"}):
        with pytest.raises(ValueError, match="kl='analytic' is for one sample and the standard"):
            loss(model, X, key=key(), kl="analytic", **options)
    with pytest.raises((ValueError, TypeCheckError), match="'triple'"):
        loss(model, X, key=key(), estimator="triple")


def test_the_dreg_gradient_is_for_the_bound_alone(model):
    """A weight on log q would scale the gradient through z_0: at kl_weight 0 there was none."""

    def mean(outputs):
        return jnp.mean(outputs.posterior.mean)

    for function, of, options, name in (
        (loss, model.vae, {"kl_weight": 0.5}, "kl_weight"),
        (loss, model.vae, {"kl_weight": jnp.asarray(0.0)}, "kl_weight"),
        (loss, model, {"logq_prefactor": (0.0, 1.0, 1.0)}, "logq_prefactor"),
        (loss, model, {"logp_prefactor": (2.0, 1.0, 1.0)}, "logp_prefactor"),
        (loss, model, {"reg_function": mean}, "reg_function"),
    ):
        with pytest.raises(ValueError, match=f"supports the plain bound only: leave out {name}"):
            function(of, X, key=key(), estimator="dreg", **options)
    traced = jax.jit(lambda w: loss(model.vae, X, key=key(), estimator="dreg", kl_weight=w))
    with pytest.raises(ValueError, match="leave out kl_weight"):
        traced(1.0)


@pytest.mark.parametrize("num_samples", [1, 4])
@pytest.mark.parametrize("name", ["vae", slow("uha")])
def test_the_doubly_reparameterized_gradient_has_the_same_mean(name, num_samples):
    """Within 4.5 standard errors of 10,000 gradients of each kind, in every number; and its value
    is the same. Seen to fail by 500 of them where its weights were those of the whole batch."""
    plain = linear_gaussian()
    model = plain if name == "vae" else HVAE(plain, family(name, 2))
    function = loss
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    learned, held = eqx.partition(model, trainable(model))

    def gradients(estimator):
        def one(key):
            def value(learned):
                options = {"num_samples": num_samples, "estimator": estimator, "kl": "sampled"}
                return function(eqx.combine(learned, held), x, key=key, **options)

            value, slope = jax.value_and_grad(value)(learned)
            return value, ravel_pytree(slope)[0]

        return map(np.asarray, jax.jit(jax.vmap(one))(jax.random.split(key(), 10_000)))

    (values, standard), (same_values, dreg) = gradients("standard"), gradients("dreg")
    np.testing.assert_allclose(values, same_values, rtol=0, atol=1e-12)
    apart = standard - dreg  # on the same noise
    error = apart.std(axis=0) / np.sqrt(len(apart))
    # Where only the score differs, the decoder's numbers do not at all.
    assert np.all(np.abs(apart.mean(axis=0)) <= 4.5 * error + 1e-12)
    assert np.sum(error > 1e-3) >= 10  # the encoder's ten differ draw by draw


def test_the_dreg_gradient_is_zero_at_the_exact_posterior():
    """Where q(z | x) is the posterior every log w is log p(x), and the encoder's gradient has no
    noise at all; the standard one has."""
    vae, x = diagonal_exact()

    def slope(estimator):
        learned, held = eqx.partition(vae, trainable(vae))
        function = eqx.filter_grad(
            lambda learned: loss(
                eqx.combine(learned, held), x, key=key(), num_samples=4,
                estimator=estimator, kl="sampled",
            )
        )  # fmt: skip
        return ravel_pytree(function(learned).encoder)[0]

    assert np.max(np.abs(slope("dreg"))) < 1e-13 < 1e-3 < np.max(np.abs(slope("standard")))


@pytest.mark.parametrize(("name", "num_samples"), [("vae", 1), ("vae", 3), ("dais", 3)])
def test_the_dreg_gradient_is_linear_in_the_loss(name, num_samples):
    """Whatever is done with a loss: factors, sums, micro-batches, vmap, any cotangent. Seen to fail
    before: 2 x the loss had 4 x the encoder's gradient. Sums of 1e-13 of a gradient of order 10.
    """
    plain = linear_gaussian()
    model = plain if name == "vae" else HVAE(plain, family(name, 1))
    function = loss
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    learned, held = eqx.partition(model, trainable(model))
    options = {"num_samples": num_samples, "estimator": "dreg", "kl": "sampled"}

    def value(learned, key, x):
        return function(eqx.combine(learned, held), x, key=key, **options)

    @partial(jax.jit, compiler_options=QUICK_COMPILE)
    def gradient(weights, cotangent):
        def weighted(learned):
            halves = x.reshape(2, 2, 3)
            keys = jax.random.split(key(), 2)
            return jax.vmap(jax.jit(value), (None, 0, 0))(learned, keys, halves) @ weights

        return ravel_pytree(jax.vjp(weighted, learned)[1](cotangent)[0])[0]

    first, second = gradient(jnp.array([1.0, 0.0]), 1.0), gradient(jnp.array([0.0, 1.0]), 1.0)
    assert np.max(np.abs(first)) > 0.1 < np.max(np.abs(second))
    for a, b, c in [(2, 0, 1), (-1, 0, 1), (0.5, 0.5, 1), (0.25, 3, 1), (1, -1, -1.5), (1, 1, 0)]:
        ours = gradient(jnp.array([a, b], float), float(c))
        np.testing.assert_allclose(ours, c * (a * first + b * second), rtol=0, atol=1e-11)


# Draws that fail: w = 0 in the importance-weighted bound, -inf in the ELBO


def test_finite_or_zero_weight():
    log_w = jnp.array([[1.0, jnp.nan], [jnp.inf, -jnp.inf]])
    np.testing.assert_array_equal(
        finite_or_zero_weight(log_w), [[1.0, -np.inf], [-np.inf, -np.inf]]
    )


def test_a_failed_draw_counts_as_no_weight():
    model, keys = vae(likelihood=Failing()), jax.random.split(key(), 8)
    draws = np.stack([log_weights(model, X, key=k) for k in keys])
    failed = ~np.isfinite(draws)
    assert failed[0].any() and not failed.all(axis=0).any()
    exact = (logsumexp(np.where(failed, -np.inf, draws), axis=0) - np.log(8)).mean()
    bound = compiled_bound(model, X, key=key(), num_samples=8)
    np.testing.assert_allclose(bound, exact, rtol=0, atol=1e-13)
    assert hamiltonian_elbo(model, X, key=keys[0]) == -np.inf


class Instead(Failing):
    """A draw that fails is `failed` log-units, NaN as its value and its derivative, or small."""

    failed: float

    def log_prob(self, output, x):
        fails = output[0] > -0.25
        likely = jnp.where(fails, 0.0, Bernoulli().log_prob(output, x))
        return likely + jnp.where(fails, self.failed, 0.0) * (1 + output[1] ** 2)


@pytest.mark.parametrize(
    ("name", "estimator"), [("bound", "standard"), ("plain loss", "standard"), ("loss", "dreg")]
)
def test_a_failed_draw_has_no_part_in_a_gradient(name, estimator):
    """Value and gradient are those of draws that have a weight of exp(-1e4) = 0 in its place. Seen
    to fail before: a loss of NaN, and NaN gradients of the bound."""
    options = {"num_samples": 8}
    if name != "bound":
        options["estimator"] = estimator

    def value_and_grad(failed):
        model = vae(likelihood=Instead(failed))
        if name != "plain loss":
            model = HVAE(model, HamiltonianFlow(0))
        function = {"bound": importance_weighted_bound}.get(name, loss)
        learned, held = eqx.partition(model, trainable(model))
        value, slope = jax.jit(
            jax.value_and_grad(
                lambda p: 2 * function(eqx.combine(p, held), X, key=key(), **options)
            )
        )(learned)
        return value, ravel_pytree(slope)[0]

    value, slope = value_and_grad(jnp.nan)
    exact, expected = value_and_grad(-1e4)
    assert jnp.isfinite(value) and np.max(np.abs(expected)) > 1e-2
    np.testing.assert_allclose(value, exact, rtol=0, atol=1e-12)
    np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_samples", [1, 3])
def test_where_every_draw_fails_the_loss_is_infinite(num_samples):
    """And not NaN: an update is left out by either."""
    x = np.where(np.arange(12).reshape(4, 3) == 4, np.nan, X)
    assert loss(vae(), x, key=key(), num_samples=num_samples) == np.inf
    model = HVAE(vae(), FLOW)
    assert loss(model, x, key=key(), num_samples=num_samples) == np.inf


def test_a_data_point_that_always_fails_has_no_likelihood():
    x = np.where(np.arange(12).reshape(4, 3) == 4, np.nan, X)
    assert compiled_bound(vae(), x, key=key(), num_samples=2) == -np.inf


def test_a_failed_draw_makes_the_plain_elbo_minus_infinity():
    x = np.where(np.arange(12).reshape(4, 3) == 4, np.nan, X)
    assert elbo(vae(), x, key=key()) == -np.inf


# The HVAE's loss


@pytest.fixture
def terms(model):
    outputs = compiled_draws(model, X, key=key())
    log_p = jax.vmap(log_p_terms)(outputs)
    return np.asarray(log_p), np.asarray(jax.vmap(log_q_terms)(outputs))


@pytest.mark.parametrize(
    ("logp", "logq"),
    [((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)), ((2.0, 0.5, -1.0), (0.3, 1.7, 0.0))],
)
def test_the_loss_weighs_the_six_terms(model, terms, logp, logq):
    logp, logq = np.array(logp), np.array(logq)
    weights = {"logp_prefactor": logp, "logq_prefactor": logq, "kl": "sampled"}
    ours = eqx.filter_jit(loss)(model, X, key=key(), **weights)
    exact = -(terms[0] @ logp - terms[1] @ logq).mean()
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-13)


def test_new_prefactors_compile_nothing(model, terms):
    """And they act on the loss alone: it is linear in them, with the six terms as its slopes."""
    traces = []

    @jax.jit
    def value(logp, logq, reg_strength):
        traces.append(1)
        options = {"logp_prefactor": logp, "logq_prefactor": logq, "reg_strength": reg_strength}
        options |= {"kl": "sampled"}
        return loss(model, X, key=key(), reg_function=lambda outputs: jnp.float64(2.0), **options)

    for scale in (1.0, 0.5):
        logp, logq = scale * jnp.arange(1.0, 4.0), scale * jnp.array([0.2, 0.4, 3.0])
        exact = 2 * scale - (terms[0] @ np.asarray(logp) - terms[1] @ np.asarray(logq)).mean()
        np.testing.assert_allclose(value(logp, logq, scale), exact, rtol=0, atol=1e-12)
    assert len(traces) == 1


def test_the_analytic_kl_keeps_the_expectation(model):
    """20,000 draws in batches of four, paired, under prefactors; an entropy 5% too large lies 14
    standard errors off."""

    def difference(key):
        options = {"logp_prefactor": np.array([1, 0.6, 1]), "logq_prefactor": np.array([1.3, 1, 1])}
        sampled, analytic = (
            loss(model, X, key=jax.random.clone(key), kl=kl, **options)
            for kl in ("sampled", "analytic")
        )
        return sampled - analytic

    noise = np.asarray(jax.jit(jax.vmap(difference))(jax.random.split(key(), 5000)))
    assert noise.std() > 0.1
    assert abs(noise.mean()) < 4.5 * noise.std() / np.sqrt(5000)


@pytest.mark.parametrize("name", ["logp_prefactor", "logq_prefactor"])
@pytest.mark.parametrize("wrong", [np.ones(2), 1.0, np.ones((3, 1))])
def test_prefactors_of_another_shape_are_refused(model, name, wrong):
    with pytest.raises(ValueError, match=f"{name} must be three numbers, got shape"):
        loss(model, X, key=key(), **{name: wrong})


@pytest.mark.parametrize("kind", ["hvae", "vae"])
def test_regularization(kind):
    model = HVAE(vae(), HamiltonianFlow(0)) if kind == "hvae" else vae()

    def spread(outputs, power, scale=1.0):
        assert outputs.posterior.mean.shape == (len(X), 2)  # batched
        return scale * jnp.mean(jnp.abs(outputs.posterior.mean) ** power)

    plain, outputs = loss(model, X, key=key(), return_draws=True)
    options = {"reg_kwargs": {"power": 3, "scale": 2.0}, "reg_strength": 0.7}
    ours = loss(model, X, key=key(), reg_function=spread, **options)
    exact = plain + 0.7 * 2 * np.mean(np.abs(outputs.posterior.mean) ** 3)
    np.testing.assert_allclose(ours, exact, rtol=1e-13)


def test_a_regularization_of_many_numbers_is_refused():
    with pytest.raises(
        ValueError, match=r"reg_function must return one number, got shape \(4, 2\)"
    ):
        loss(vae(), X, key=key(), reg_function=lambda outputs: outputs.posterior.mean)


# The plain VAE's


def test_the_elbo_is_its_formula():
    value, outputs = elbo(vae(), X, key=key(), return_draws=True)
    mean, sigma = outputs.posterior.mean, np.exp(outputs.posterior.log_sigma)
    kl = 0.5 * (mean**2 + sigma**2 - 1).sum(-1) - np.log(sigma).sum(-1)
    np.testing.assert_allclose(value, (outputs.log_likelihood - kl).mean(), rtol=1e-13)
    sampled = elbo(vae(), X, key=key(), kl="sampled")
    np.testing.assert_allclose(sampled, log_weights(vae(), X, key=key()).mean(), rtol=1e-13)


def test_analytic_and_sampled_have_the_same_expectation():
    """20,000 paired draws; a KL without its (sigma^2 - 1) / 2 lies 124 standard errors off, one 5%
    too large 4.4."""
    n = 20_000
    outputs = compiled_draws(vae(), np.tile(X, (n // 4, 1)), key=key())
    sampled = outputs.log_posterior - outputs.log_prior
    analytic = jax.vmap(lambda q: q.kl_from_standard_normal())(outputs.posterior)
    difference = np.asarray(sampled - analytic)
    assert abs(difference.mean()) < 4.5 * difference.std() / np.sqrt(n)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_the_kl_weight(kl):
    bound, outputs = elbo(vae(), X, key=key(), kl=kl, return_draws=True)
    values = [loss(vae(), X, key=key(), kl=kl, kl_weight=weight) for weight in (0.0, 1.0, 3.0)]
    np.testing.assert_allclose(values[0], -outputs.log_likelihood.mean(), rtol=1e-13)
    np.testing.assert_allclose(values[1], -bound, rtol=1e-13)
    np.testing.assert_allclose(values[2] - values[1], 2 * (values[1] - values[0]), rtol=1e-12)


def test_a_new_kl_weight_compiles_nothing():
    model, traces = vae(), []

    @jax.jit
    def value(kl_weight):
        traces.append(1)
        return loss(model, X, key=key(), kl_weight=kl_weight)

    assert value(0.1) < value(0.9)
    assert len(traces) == 1


def test_a_users_prior_needs_the_sampled_kl():
    model = vae(prior=Wide())
    with pytest.raises(ValueError, match="'analytic' needs a StandardNormal prior and a Diag"):
        elbo(model, X, key=key(), kl="analytic")
    assert elbo(model, X, key=key()) == elbo(model, X, key=key(), kl="sampled")
    sampled = elbo(model, X, key=key(), kl="sampled")
    np.testing.assert_allclose(sampled, log_weights(model, X, key=key()).mean(), rtol=1e-13)


def test_an_unknown_kl_is_refused():
    with pytest.raises((ValueError, TypeCheckError), match="analytic"):
        elbo(vae(), X, key=key(), kl="exact")
