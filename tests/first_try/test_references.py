"""Reference densities against SciPy's, and against themselves in other units."""

import numpy as np
import pytest
import scipy.stats
from tests.first_try import references
from tests.first_try.drawn import correlated
from tests.first_try.references import (
    FLOOR,
    gaussian,
    independent_bits,
    independent_counts,
    independent_gaussian,
    log_negative_binomial,
    log_normal,
    mixture,
)

RNG = np.random.default_rng(0)
TRAIN, VALIDATION, TEST = np.split(10 + 3 * correlated(RNG, 410, 4, 2), [300, 360])


def test_log_normal():
    """Whole covariances and diagonals, as SciPy has them."""
    mean, root = RNG.normal(size=4), RNG.normal(size=(4, 4))
    for covariance in (root @ root.T + np.eye(4), np.diag(np.arange(1.0, 5.0))):
        expected = scipy.stats.multivariate_normal(mean, covariance).logpdf(TEST)
        np.testing.assert_allclose(log_normal(TEST, mean, covariance), expected, rtol=1e-10)
    np.testing.assert_allclose(log_normal(TEST, mean, np.arange(1.0, 5.0)), expected, rtol=1e-12)


def test_independent_gaussian():
    """The product of fitted normals, but for the floor, which is 1e-6 of the variance."""
    expected = scipy.stats.norm(TRAIN.mean(0), TRAIN.std(0)).logpdf(TEST).sum(1)
    np.testing.assert_allclose(independent_gaussian(TRAIN)(TEST), expected, rtol=1e-4)


def test_gaussian():
    """The fitted normal of the raw columns, hardly shrunk: 300 rows know 4 columns. Shrunk where
    there are fewer rows than columns."""
    density, shrinkage = gaussian(TRAIN, VALIDATION)
    assert shrinkage <= 1e-2
    fitted = scipy.stats.multivariate_normal(TRAIN.mean(0), np.cov(TRAIN.T, bias=True))
    np.testing.assert_allclose(density(TEST).mean(), fitted.logpdf(TEST).mean(), atol=0.05)
    assert density(TEST).mean() > independent_gaussian(TRAIN)(TEST).mean() + 1
    wide = correlated(np.random.default_rng(1), 60, 40, 3)
    assert gaussian(wide[:30], wide[30:])[1] >= 0.1


def test_a_mixture_is_scikit_learns(monkeypatch):
    """Its own score in standardized columns, less the log standard deviations."""
    monkeypatch.setattr(references, "COMPONENTS", (2,))
    monkeypatch.setattr(references, "FLOOR", 0.0)
    density, chosen = mixture(TRAIN, VALIDATION)
    scale = references.scale_of(TRAIN)
    kind = chosen.split()[1]
    own = references.GaussianMixture(2, covariance_type=kind, random_state=0).fit(scale(TRAIN))
    expected = own.score_samples(scale(TEST)) - np.log(scale.scale).sum()
    np.testing.assert_allclose(density(TEST), expected, rtol=1e-9)


def test_a_mixture_finds_the_groups():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(600, 3)) + 8 * rng.integers(0, 3, (600, 1))
    density, chosen = mixture(x[:400], x[400:500])
    assert chosen.split()[0] in ("3", "5")
    assert density(x[500:]).mean() > gaussian(x[:400], x[400:500])[0](x[500:]).mean() + 1


@pytest.mark.parametrize("name", ["independent", "gaussian", "mixture"])
def test_other_units_cost_their_logarithm(name):
    """log p of 1000 x + 7 is log p of x less 4 log 1000. Without the log-Jacobian it is log p."""

    def density(train, validation):
        if name == "independent":
            return independent_gaussian(train)
        return {"gaussian": gaussian, "mixture": mixture}[name](train, validation)[0]

    here = density(TRAIN, VALIDATION)(TEST)
    there = density(1000 * TRAIN + 7, 1000 * VALIDATION + 7)(1000 * TEST + 7)
    np.testing.assert_allclose(there, here - 4 * np.log(1000), rtol=1e-6)


@pytest.mark.parametrize("reference", [independent_gaussian, lambda x: gaussian(x, x)[0]])
def test_a_density_integrates_to_one(reference):
    """Over a grid of two columns in units of 1e-3 and 1e3. A lost log sd would give 1e-3 or so."""
    rng = np.random.default_rng(3)
    units = np.array([1e-3, 1e3])
    train = units * correlated(rng, 200, 2, 1)
    axis = np.linspace(-8, 8, 401)
    grid = units * np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    total = np.exp(reference(train)(grid)).sum() * np.prod(units) * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(total, 1, rtol=1e-3)


def test_rounded_and_constant_columns_are_no_treasure():
    """A column of few levels has the variance of its rounding more, and of a constant one the
    density is that of a tenth of its value: no log p grows beyond what that allows."""
    rng = np.random.default_rng(4)
    rounded, constant = np.rint(3 * rng.normal(size=500)), np.full(500, 2.5)
    density = independent_gaussian(np.column_stack([rounded, constant]))
    sd = np.hypot(rounded.std(), 1 / np.sqrt(12))
    expected = scipy.stats.norm(rounded.mean(), sd).logpdf(1.0)
    expected += scipy.stats.norm(2.5, 0.25).logpdf(2.5)
    np.testing.assert_allclose(density(np.array([[1.0, 2.5]]))[0], expected, rtol=1e-9)
    levels = np.column_stack([np.repeat([0.0, 1.0], 250), constant])
    best = mixture(levels, levels)[0](levels).max()
    assert best < scipy.stats.norm(0, 1 / np.sqrt(12)).logpdf(0) + np.log(4 / np.sqrt(2 * np.pi))
    assert references.scale_of(TRAIN).floor.max() == FLOOR


def test_negative_binomial():
    """As SciPy has it: n = r, p = r / (r + mean). With r large it is the Poisson."""
    x, mean, r = np.arange(40.0), np.full(40, 7.0), np.full(40, 2.5)
    expected = scipy.stats.nbinom(2.5, 2.5 / 9.5).logpmf(x)
    np.testing.assert_allclose(log_negative_binomial(x, mean, r), expected, rtol=1e-10)
    found = log_negative_binomial(x, mean, np.full(40, 1e9))
    np.testing.assert_allclose(found, scipy.stats.poisson(7).logpmf(x), rtol=1e-5)


def test_independent_counts():
    """At least as likely on its own rows as any dispersion of a grid; a Poisson's where nothing is
    overdispersed; finite for a feature that was never seen."""
    rng = np.random.default_rng(5)
    over, even = rng.negative_binomial(2, 0.2, 400), rng.poisson(100, 400)
    counts = np.column_stack([over, even, np.zeros(400)]).astype(float)
    found = independent_counts(counts)(counts).sum()
    mean = (counts.sum(0) + 0.5) / 401
    for r in np.exp(np.linspace(-3, 13, 60)):
        tried = [
            scipy.stats.nbinom(r, r / (r + m)).logpmf(column).sum()
            for column, m in zip(counts[:, :1].T, mean, strict=False)
        ]
        rest = scipy.stats.poisson(mean[1:]).logpmf(counts[:, 1:]).sum()
        assert found >= tried[0] + rest - 0.05
    assert np.isfinite(independent_counts(counts)(np.array([[1.0, 90.0, 3.0]])))[0]


def test_independent_bits():
    """All tables of two bits sum to one; the shares are those of the rows."""
    rows = np.array([[0, 1], [1, 1], [0, 1], [0, 1]], float)
    each = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
    p = np.exp(independent_bits(rows)(each))
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(p[1], (1 - 1.5 / 5) * (4.5 / 5), rtol=1e-12)
