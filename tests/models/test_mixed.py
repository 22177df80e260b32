"""A table's row: the sum of its columns' families, whatever is missing, in the order of the row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, logsumexp

import hvax
from hvax.batch import Batch
from hvax.evaluation.imputation import impute
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.likelihood import (
    Bernoulli,
    CountRate,
    LearnedGaussian,
    NegativeBinomial,
)
from hvax.models.mixed import CategoryColumns, Group, MixedLikelihood, mean_of_mixture
from hvax.models.standardize import StandardizedLikelihood
from hvax.models.transform import Transform
from hvax.parameters import Fixed
from hvax.training.marginals import marginals
from hvax.training.mixed import mixed_mlp
from models_for_tests import Affine, AffineEncoder, in_bits

# Columns 0 and 4 are numbers (the second by its logarithm), 1 and 3 classes of 3 and 2, 2 a count,
# 5 a bit.
SHIFT, SCALE = np.array([3.0, 0.5]), np.array([2.0, 0.3])
LIKELIHOOD = MixedLikelihood([
    Group(
        StandardizedLikelihood(
            LearnedGaussian(), Fixed(SHIFT), Fixed(SCALE),
            transform=Transform(("none", "log"), np.zeros(2), np.ones(2)),
        ),
        (0, 4),
    ),
    Group(CategoryColumns((3, 2)), (1, 3)),
    Group(NegativeBinomial(), (2,)),
    Group(Bernoulli(), (5,)),
])  # fmt: skip
OUTPUT = (
    DiagonalGaussian(jnp.asarray([0.3, -0.4]), jnp.asarray([-0.36, 0.18])),
    jnp.asarray([[0.1, -1.0, 0.7], [0.4, -0.2, 9.0]]),  # 9 is of a class that column 3 lacks
    CountRate(jnp.asarray([1.1]), jnp.asarray([0.4])),
    jnp.asarray([-0.3]),
)
ROW = np.array([2.2, 2, 4, 0, 1.7, 1])


def doubled(tree):
    """The same numbers in the precision at hand: the module's own are of float32."""
    return jax.tree.map(lambda a: jnp.asarray(np.round(np.asarray(a, float), 6)), tree)


def each_log_prob(row):
    """The log-probability of every column, by scipy."""
    number = stats.norm(3 + 2 * 0.3, 2 * np.exp(-0.36)).logpdf(row[0])
    size = stats.lognorm(0.3 * np.exp(0.18), scale=np.exp(0.5 - 0.3 * 0.4)).logpdf(row[4])
    first, second = log_softmax([0.1, -1.0, 0.7]), log_softmax([0.4, -0.2])
    r, mean = np.exp(0.4), np.exp(1.1)
    count = stats.nbinom(r, r / (r + mean)).logpmf(row[2])
    bit = stats.bernoulli(1 / (1 + np.exp(0.3))).logpmf(row[5])
    return np.array([number, first[int(row[1])], count, second[int(row[3])], size, bit])


def test_log_prob_is_the_sum_over_columns(x64):
    found = doubled(LIKELIHOOD).log_prob(doubled(OUTPUT), jnp.asarray(ROW))
    np.testing.assert_allclose(found, each_log_prob(ROW).sum(), rtol=1e-7)


@pytest.mark.parametrize("pattern", range(1, 64, 7))
def test_only_observed_columns_count(pattern):
    """To rounding of float32; and what hidden ones hold changes no bit of value or gradient."""
    mask = np.array([pattern >> i & 1 for i in range(6)], bool)

    def both(x):
        return jax.value_and_grad(
            lambda output: LIKELIHOOD.log_prob(output, jnp.asarray(x, float), jnp.asarray(mask))
        )(OUTPUT)

    found = both(ROW)
    np.testing.assert_allclose(found[0], each_log_prob(ROW)[mask].sum(), rtol=1e-5, atol=1e-6)
    for hidden in (np.nan, -7.0, np.inf):
        assert in_bits(both(np.where(mask, ROW, hidden))) == in_bits(found)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))


def test_samples_have_the_columns_distributions():
    """Means to 4.5 standard errors of 20,000 draws; classes by their frequencies."""
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(jax.vmap(lambda key: LIKELIHOOD.sample(OUTPUT, key=key))(keys), float)
    mean = np.asarray(LIKELIHOOD.mean(OUTPUT), float)
    for column in (0, 2, 4, 5):
        error = 4.5 * drawn[:, column].std() / np.sqrt(len(drawn))
        assert abs(drawn[:, column].mean() - mean[column]) < error
    for column, p in (
        (1, np.exp(log_softmax([0.1, -1, 0.7]))),
        (3, np.exp(log_softmax([0.4, -0.2]))),
    ):
        share = np.bincount(drawn[:, column].astype(int)) / len(drawn)
        np.testing.assert_allclose(share, p, atol=4.5 * 0.5 / np.sqrt(len(drawn)))
    assert mean[1] == 2 and mean[3] == 0  # the most probable classes


def test_the_best_class_of_a_mixture_is_by_probability():
    """Not the mean of the best classes: 0 and 2 half the time each are no class 1."""
    likelihood = MixedLikelihood([Group(CategoryColumns((3,)), (0,))])
    outputs = (jnp.log(jnp.asarray([[[0.6, 0.0, 0.4]], [[0.1, 0.0, 0.9]]])),)
    assert mean_of_mixture(likelihood, outputs, jnp.asarray([0.5, 0.5])) == 2
    assert mean_of_mixture(likelihood, outputs, jnp.asarray([1.0, 0.0])) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: 3.0}, r"in columns 1, 3: data of a category must be a class index, got 3\.0"),
        ({3: 0.5}, "a class index, got 0.5"),
        ({2: -1.0}, "in columns 2: data of a Poisson must be whole counts"),
        ({4: -2.0}, "in columns 0, 4: feature 1 must be positive"),
        ({5: 2.0}, r"in columns 5: data of a Bernoulli must be in \[0, 1\]"),
        ({0: np.inf}, "must be finite"),
    ],
)
def test_values_outside_a_columns_support_are_refused(change, message):
    rows = np.stack([ROW, ROW])
    for column, value in change.items():
        rows[1, column] = value
    with pytest.raises(ValueError, match=message):
        LIKELIHOOD.check(rows)
    mask = np.ones(rows.shape, bool)
    mask[1, list(change)] = False
    LIKELIHOOD.check(rows, mask)


def test_groups_share_out_the_columns():
    with pytest.raises(ValueError, match=r"each column once, got the columns \[0, 0, 1\]"):
        MixedLikelihood([Group(Bernoulli(), (0, 1)), Group(Bernoulli(), (0,))])


class Heads(hvax.MLP):
    """A decoder whose parameters move along one latent dimension."""

    def __call__(self, z):
        return jax.tree.map(
            lambda a: a + z[0] * jnp.linspace(0.5, -0.6, a.size).reshape(a.shape), OUTPUT
        )


def one_dimensional():
    network = Heads((1,), (1,), key=jax.random.key(0))
    # Of all columns without the mask; a broad q, so that weights are bounded.
    encoder = AffineEncoder(Affine(jnp.zeros((1, 6)), jnp.zeros(1)), jnp.full(1, 0.1))
    return hvax.VAE(encoder, hvax.Decoder(network, LIKELIHOOD))


Z = np.linspace(-8, 8, 1601)


@jax.jit
def log_joint_on_grid(row, mask):
    network = one_dimensional().decoder
    return jax.vmap(lambda z: LIKELIHOOD.log_prob(network(z[None]), row, mask) - 0.5 * z**2)(
        jnp.asarray(Z, float)
    )


@pytest.mark.parametrize("flow", [None, "dais"])
def test_evidence_of_any_pattern_by_quadrature(flow):
    """To 0.05 nats: 4,000 draws whose weights vary by less than themselves, and rounding."""
    vae = one_dimensional()
    model = vae if flow is None else hvax.HVAE(vae, hvax.HamiltonianFlow.dais(2))
    masks = np.array([[p >> i & 1 for i in range(6)] for p in range(1, 64, 6)], bool)
    rows = np.where(masks, ROW, np.nan)
    scores = hvax.evaluate(model, rows, key=jax.random.key(0), num_samples=4000, progress=False)
    for i, mask in enumerate(masks):
        joint = np.asarray(log_joint_on_grid(jnp.asarray(ROW, float), jnp.asarray(mask)), float)
        truth = logsumexp(joint) + np.log(Z[1] - Z[0]) - 0.5 * np.log(2 * np.pi)
        assert abs(scores.per_point.log_p[i] - truth) < 0.05


def test_imputed_columns_follow_the_posterior_predictive():
    """Class probabilities and the mean of a count given the others, against quadrature."""
    model, mask = one_dimensional(), np.array([True, False, False, True, True, True])
    found = impute(
        model, Batch(ROW[None], mask=mask[None]), num_draws=4000, num_samples=8000, progress=False
    )
    joint = np.asarray(log_joint_on_grid(jnp.asarray(ROW, float), jnp.asarray(mask)), float)
    weight = np.exp(joint - logsumexp(joint))
    outputs = jax.vmap(lambda z: model.decoder(z[None]))(jnp.asarray(Z, float))
    p = (
        weight
        @ np.asarray(jax.vmap(LIKELIHOOD.groups[1].likelihood.probabilities)(outputs[1]))[:, 0]
    )
    count = weight @ np.exp(np.asarray(outputs[2].log_mean, float))[:, 0]
    share = np.bincount(found.draws_of_missing[:, 0].astype(int), minlength=3) / 4000
    np.testing.assert_allclose(share, p, atol=4.5 * 0.5 / np.sqrt(2000))
    assert found.means[0] == p.argmax()
    assert found.means[1] == pytest.approx(count, rel=0.05)


def test_networks_start_at_the_marginals_and_are_saved(tmp_path):
    """The bound of untrained networks is within 2 nats a column of independent columns; the
    encoder's features have one place for every class."""
    generator = np.random.default_rng(0)
    n = 300
    x = np.column_stack([
        generator.normal(1e5, 1e3, n), generator.integers(0, 3, n), generator.poisson(40, n),
        generator.integers(0, 2, n), generator.lognormal(-6, 1, n), generator.integers(0, 2, n),
    ])  # fmt: skip
    x[generator.uniform(size=x.shape) < 0.1] = np.nan
    plain = MixedLikelihood([
        Group(LearnedGaussian(), (0, 4)), Group(CategoryColumns((3, 2)), (1, 3)),
        Group(NegativeBinomial(), (2,)), Group(Bernoulli(), (5,)),
    ])  # fmt: skip
    choices = ["auto", "auto", "auto", "auto", "log", "auto"]
    found = marginals(plain, x, transform=choices)
    kinds = found.likelihood.groups[0].likelihood.transform.kinds
    assert kinds == ("none", "log")
    encoder, decoder = mixed_mlp(
        found, x, 2, hidden=(8, 5), missing_values=True, key=jax.random.key(0)
    )
    model = hvax.VAE(encoder, decoder)
    assert encoder.network.trunk.in_shape == (2 + 3 + 2 + 1 + 1 + 6,)
    scores = hvax.evaluate(model, x, key=jax.random.key(1), num_samples=50, progress=False)
    independent = found.log_prob(x.astype(np.float32))
    assert abs(scores.elbo - independent.mean()) < 2 * 6
    hvax.save(model, tmp_path / "model")
    assert in_bits(hvax.load(tmp_path / "model")) == in_bits(model)
