"""Every likelihood runs every law; scipy is the oracle. Then float32 at the extremes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hvax.models.gaussian import DiagonalGaussian
from hvax.models.heads import SigmaHead
from hvax.models.likelihood import (
    AbstractLikelihood,
    Bernoulli,
    Categorical,
    CountRate,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
    ShapeMismatch,
)
from hvax.parameter import Learned

FEATURES = np.array([[0.3, -1.2, 2.0], [0.0, 0.9, -0.4]])
SIGMAS = np.array([[0.5, 1.0, 3.0], [0.1, 2.0, 0.9]])
INDEX = r"at index \(1, 0, 2"


class OneHot:
    """What scipy would call multinomial with one trial, class axis last."""

    def __init__(self, logits):
        self.p = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))

    def logpmf(self, x):
        return stats.multinomial.logpmf(x, 1, self.p)

    def mean(self):
        return self.p

    def var(self):
        return self.p * (1 - self.p)


@dataclass
class Case:
    make: Callable[[], AbstractLikelihood]
    output: Callable[[np.ndarray], Any]  # an array of any shape -> NumPy parameters of that shape
    oracle: Callable[[Any], Any]  # parameters -> scipy's frozen distribution
    support: np.ndarray  # of one feature, all of it but 1e-13
    refused: list[tuple[Any, str]] = field(default_factory=list)  # a value, and what is said
    dtypes: tuple[str, ...] = ("uint8", "int32", "float32")


def negative_binomial(output: CountRate):
    mean, r = np.exp(output.log_mean), np.exp(output.log_dispersion)
    return stats.nbinom(r, r / (r + mean))


COUNTS = np.arange(400.0)
LINE = np.linspace(-60, 60, 12001)
NOT_FINITE = [(np.nan, "finite; got nan"), (-np.inf, "finite; got -inf")]
NOT_COUNTS = [(-1.0, "counts >= 0; got -1.0"), (2.5, "got 2.5"), (np.nan, "nan"), (np.inf, "inf")]
OUTSIDE = [(1.5, r"in \[0, 1\]; got 1.5"), (-0.1, "got -0.1"), (np.nan, "got nan")]

CASES = {
    "Bernoulli": Case(
        Bernoulli,
        lambda a: a,
        lambda l: stats.bernoulli(1 / (1 + np.exp(-l))),
        np.arange(2.0),
        OUTSIDE,
        ("uint8", "int32", "float32", "bool"),
    ),
    "FixedGaussian": Case(
        lambda: FixedGaussian(0.7), lambda a: a, lambda m: stats.norm(m, 0.7), LINE, NOT_FINITE
    ),
    "FixedGaussian, a sigma per feature": Case(
        lambda: FixedGaussian(SIGMAS),
        lambda a: a,
        lambda m: stats.norm(m, SIGMAS),
        LINE,
        NOT_FINITE,
    ),
    "FixedGaussian, a learned sigma": Case(
        lambda: FixedGaussian(Learned(2.5, upper=4.0)),
        lambda a: a,
        lambda m: stats.norm(m, 2.5),
        LINE,
        NOT_FINITE,
    ),
    "LearnedGaussian": Case(
        LearnedGaussian,
        lambda a: DiagonalGaussian(a, 0.5 * a),
        lambda q: stats.norm(q.mean, np.exp(q.log_sigma)),
        LINE,
        NOT_FINITE,
    ),
    "Categorical": Case(
        lambda: Categorical(4),
        lambda a: np.stack([a, -a, 0 * a, a**2], axis=-1),
        OneHot,
        np.eye(4),
        dtypes=("uint8", "int32", "float32", "bool"),
    ),
    "Poisson": Case(Poisson, lambda a: a, lambda l: stats.poisson(np.exp(l)), COUNTS, NOT_COUNTS),
    "NegativeBinomial": Case(
        NegativeBinomial,
        lambda a: CountRate(a, 0.5 - a),
        negative_binomial,
        COUNTS,
        NOT_COUNTS,
    ),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def as_jax(output, dtype=float):
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), output)


def draw(case: Case, n: int, dtype=float) -> tuple[Any, Any]:
    """n data points from the likelihood at FEATURES, and its parameters there."""
    likelihood, output = case.make(), as_jax(case.output(FEATURES), dtype)
    sample = jax.vmap(lambda key: likelihood.sample(output, key=key))
    return np.asarray(jax.jit(sample)(jax.random.split(jax.random.key(0), n))), output


def test_log_prob_is_scipys(case, x64):
    x, output = draw(case, 50)
    ours = jax.vmap(lambda x: case.make().log_prob(output, x))(jnp.asarray(x))
    distribution = case.oracle(case.output(FEATURES))
    logs = getattr(distribution, "logpmf", None) or distribution.logpdf
    theirs = np.array([np.sum(logs(one)) for one in x])
    # Sums of six terms that may cancel: relative to the size of the terms. Seen: 5e-15.
    size = np.array([np.abs(logs(one)).sum() for one in x])
    assert np.all(np.abs(ours - theirs) <= 1e-12 * size)


def test_density_integrates_to_one(case, x64):
    if case.make().__class__ is FixedGaussian and case.make().sigma.value.ndim:
        pytest.skip("one feature: the scalar sigma covers it")
    for feature in FEATURES.ravel():
        output = as_jax(case.output(np.array([feature])))
        x = jnp.asarray(case.support)[:, None]
        density = jnp.exp(jax.vmap(lambda x, output=output: case.make().log_prob(output, x))(x))
        # The trapezoidal rule on a smooth density that vanishes at both ends is exact to rounding.
        width = LINE[1] - LINE[0] if case.support is LINE else 1.0
        np.testing.assert_allclose(jnp.sum(density) * width, 1, rtol=1e-12)


def test_mean_is_scipys(case, x64):
    output = case.output(FEATURES)
    np.testing.assert_allclose(
        case.make().mean(as_jax(output)), case.oracle(output).mean(), rtol=1e-13
    )


def test_draws_have_mean_and_variance(case):
    """20,000 draws of each feature, within 4.5 standard errors of scipy's. A Gaussian with a
    sigma 5% too large lies 10 off, a negative binomial with its r doubled 20, a Bernoulli with a
    key shared by all draws 90."""
    x, _ = draw(case, 20_000)
    distribution = case.oracle(case.output(FEATURES))
    centred = x.astype(np.float64) - distribution.mean()
    for moment, exact in [(centred, 0), (centred**2, distribution.var())]:
        error = moment.std(0) / np.sqrt(len(x))
        assert np.all(np.abs(moment.mean(0) - exact) < 4.5 * error)


def test_draws_lie_in_the_support(case):
    x, output = draw(case, 20)
    case.make().check(x)
    assert x.shape[1:] == case.make().mean(output).shape
    assert x.dtype == jax.tree.leaves(output)[0].dtype


def test_single_precision_stays_single(case, x64):
    x, output = draw(case, 1, np.float32)
    likelihood = case.make()
    assert x.dtype == likelihood.mean(output).dtype == np.float32
    for dtype in case.dtypes:
        one = jnp.asarray(np.abs(x[0]), dtype)
        assert likelihood.log_prob(output, one).dtype == np.float32


def test_any_dtype_of_the_data_gives_the_same_number(case):
    output = as_jax(case.output(FEATURES), np.float32)
    x = jnp.float32(
        np.ones(FEATURES.shape) if case.support.ndim == 1 else np.eye(4)[[[0, 1, 2]] * 2]
    )
    numbers = {float(case.make().log_prob(output, x.astype(dtype))) for dtype in case.dtypes}
    assert len(numbers) == 1 and np.isfinite(numbers.pop())


def test_wrong_shapes_are_refused(case):
    x, output = draw(case, 3)
    with pytest.raises(ShapeMismatch, match=r"jax\.vmap\(lambda x, key: f\(x, key=key\)\)"):
        case.make().log_prob(output, jnp.asarray(x))
    with pytest.raises(ShapeMismatch, match="must have shape") as refusal:
        case.make().log_prob(output, jnp.asarray(x[0][:1]))
    assert "vmap" not in str(refusal.value)


def test_nan_in_gives_nan_out(case):
    x, output = draw(case, 1)
    x = jnp.asarray(x[0])
    holed = x.at[(0,) * x.ndim].set(jnp.nan)
    broken = jax.tree.map(lambda a: a.at[(0,) * a.ndim].set(jnp.nan), output)
    assert jnp.isnan(case.make().log_prob(output, holed))
    assert jnp.isnan(case.make().log_prob(broken, x))


def test_check_names_the_value_and_where(case):
    x, _ = draw(case, 2)
    for value, said in case.refused:
        x[1, 0, 2] = value
        with pytest.raises(ValueError, match=f"{said}.*{INDEX}"):
            case.make().check(x)


@pytest.mark.parametrize(("family", "x"), [(Bernoulli(), [0, 1]), (Poisson(), [0, 300])])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float16", "float64"])
def test_check_takes_every_dtype(family, x, dtype):
    family.check(np.array([x]).clip(0, 255).astype(dtype))
    family.check(np.array([[True, False]]))


# The categorical's two forms of data.

LOGITS = np.array([[0.1, 2.0, -1.0], [0.0, 0.0, 5.0]])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_integer_classes_are_one_hot_ones(dtype):
    likelihood, logits = Categorical(3), jnp.asarray(LOGITS, jnp.float32)
    classes = jnp.array([2, 0], dtype)
    one_hot = jax.nn.one_hot(classes, 3, dtype=jnp.float32)
    by_class, by_row = (likelihood.log_prob(logits, x) for x in (classes, one_hot))
    np.testing.assert_allclose(by_class, by_row, rtol=1e-6)  # two terms of order one
    by_class, by_row = (
        jax.grad(lambda l, x=x: likelihood.log_prob(l, x))(logits) for x in (classes, one_hot)
    )
    np.testing.assert_allclose(by_class, by_row, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("num_classes", "dtype", "wrong"),
    [
        (3, "int32", -1),
        (3, "int32", 3),
        (3, "uint8", 255),
        (3, "int8", -3),
        pytest.param(
            200,
            "int8",
            -1,
            marks=pytest.mark.xfail(strict=True, reason="num_classes wraps in int8: class 200-256"),
        ),
    ],
)
def test_a_class_out_of_range_is_no_number(num_classes, dtype, wrong):
    logits = jnp.zeros((2, num_classes))
    assert jnp.isnan(Categorical(num_classes).log_prob(logits, jnp.array([1, wrong], dtype)))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.array([[0, 1], [2, 3]]), r"classes 0 to 2; got 3 at index \(1, 1\)"),
        (np.array([[0, 1], [-1, 0]]), r"got -1 at index \(1, 0\)"),
        (np.array([[[0, 1, 0]], [[0, 1, 1]]]), r"one-hot along its last axis; .*index \(1, 0"),
        (np.array([[[0.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]]), r"one-hot .*index \(1, 0"),
        (np.array([[0.5, 0.5, 0.0]]), "integer classes; got float64"),
        (np.array([[np.nan, 1.0, 0.0]]), "integer classes; got float64"),
    ],
)
def test_categorical_check_refuses(x, said):
    with pytest.raises(ValueError, match=said):
        Categorical(3).check(x)


def test_categorical_check_accepts():
    Categorical(3).check(np.eye(3)[[[0, 2], [1, 1]]])
    Categorical(3).check(np.array([0, 2, 1], np.uint8))


def test_logits_of_another_number_of_classes_are_refused():
    with pytest.raises(ShapeMismatch, match=r"decoder's logits must have shape \(2, 4\)"):
        Categorical(4).log_prob(jnp.zeros((2, 3)), jnp.zeros(2, int))


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan, [1.0, 0.0]])
def test_a_sigma_that_is_not_positive_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma must be > 0"):
        FixedGaussian(sigma)


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes must be >= 1, got 0"):
        Categorical(0)


# float32 at the extremes: MATHS.md promises finite values, first and second derivatives, and
# their squares, for x to 1e4 and network outputs to 1e3.


def assert_finite(f: Callable, points: np.ndarray) -> None:
    points = jnp.asarray(points, jnp.float32)
    for derivative in (f, jax.grad(f), jax.hessian(f)):
        values = jax.jit(jax.vmap(derivative))(points)
        assert values.dtype == jnp.float32
        assert jnp.all(jnp.isfinite(values)) and jnp.all(jnp.isfinite(values**2))


def grid(*axes):
    return np.stack([a.ravel() for a in np.meshgrid(*axes)], axis=-1)


RAW = [-1e3, -50.0, -10.0, 0.0, 10.0, 50.0, 1e3]
X = [-1e4, -1.0, 0.0, 1e4]


@pytest.mark.parametrize("form", ["log", "softplus"])
def test_gaussian_heads_stay_finite(form):
    head = SigmaHead(lambda raw: raw, form=form)

    def log_prob(point):
        output = DiagonalGaussian(point[:1], head(point[1:2]))
        return LearnedGaussian().log_prob(output, point[2:])

    assert_finite(log_prob, grid(RAW, RAW, X))


@pytest.mark.parametrize("form", ["log", "softplus"])
@pytest.mark.parametrize("number", ["log_prob of the draw", "draw", "KL", "entropy"])
def test_encoder_heads_stay_finite(form, number):
    head = SigmaHead(lambda raw: raw, form=form)

    def encoder(point):
        q = DiagonalGaussian(point[:1], head(point[1:]))
        z, log_prob = q.sample_and_log_prob(key=jax.random.key(0))
        kl, entropy = q.kl_from_standard_normal(), q.entropy()
        return {"log_prob of the draw": log_prob, "draw": z[0], "KL": kl, "entropy": entropy}[
            number
        ]

    assert_finite(encoder, grid(RAW, RAW))


@pytest.mark.parametrize("x", [0.0, 1.0, 0.5])
def test_bernoulli_stays_finite(x):
    assert_finite(lambda l: Bernoulli().log_prob(l, jnp.float32([x])), grid(RAW))


def test_categorical_stays_finite():
    for x in np.eye(3, dtype=np.float32):
        assert_finite(
            lambda l, x=x: Categorical(3).log_prob(l, jnp.asarray(x)), grid(RAW, RAW, RAW)
        )


def test_saturated_gradients_are_right():
    """At |logit| = 50 the gradient is x - p, with p the exact probability."""
    logits = np.float32([50.0, -50.0])
    for x in (0.0, 1.0):
        ours = jax.grad(lambda l, x=x: Bernoulli().log_prob(l, jnp.full(2, x)))(jnp.asarray(logits))
        exact = x - 1 / (1 + np.exp(-logits.astype(np.float64)))
        np.testing.assert_allclose(ours, exact, rtol=1e-6, atol=1e-12)
    ours = jax.grad(lambda l: Categorical(2).log_prob(l, jnp.array(1)))(jnp.asarray(logits))
    np.testing.assert_allclose(ours, [-1, 1], rtol=1e-6)


def test_negative_binomial_at_large_dispersion_in_single_precision():
    """At r = 2e4, where a difference of lgammas would be 1e-2 nats off. The terms are of order 30
    and carry 30 eps = 4e-6."""
    output = CountRate(jnp.float32([1.0, 3.0]), jnp.float32([10.0, 9.0]))
    x = np.array([3.0, 18.0])
    exact = negative_binomial(jax.tree.map(lambda a: np.asarray(a, np.float64), output)).logpmf(x)
    ours = NegativeBinomial().log_prob(output, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(ours, exact.sum(), rtol=0, atol=1e-4)
