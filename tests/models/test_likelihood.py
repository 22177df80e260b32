"""Every likelihood runs every law; scipy is the oracle. Then float32 at the extremes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hvax.models.data_point import ShapeMismatch
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
)
from hvax.models.network import mlp
from hvax.models.standardize import StandardizedLikelihood
from hvax.parameters import Fixed, Learned

FEATURES = np.array([[0.3, -1.2, 2.0], [0.0, 0.9, -0.4]])
SHIFTS = np.array([[2.0, 0.0, -3.0], [0.5, 1.0, 7.0]])
SIGMAS = np.array([[0.5, 1.0, 3.0], [0.1, 2.0, 0.9]])


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


def nbinom(log_mean, log_r):
    mean, r = np.exp(log_mean), np.exp(log_r)
    return stats.nbinom(r, r / (r + mean))


@dataclass
class Case:
    make: Callable[[], AbstractLikelihood]
    oracle: Callable  # the parameters, NumPy arrays -> scipy's frozen distribution
    support: np.ndarray  # of one feature, all of it but 1e-13
    refused: list[tuple[float, str]] = field(default_factory=list)  # a value, and what is said
    parameters: Callable = lambda a: (a,)  # an array of any shape -> parameters of that shape
    pack: Callable = lambda a: a  # the parameters, JAX arrays -> a decoder's output

    def output(self, features=None, dtype=float):
        parameters = self.parameters(FEATURES if features is None else features)
        return self.pack(*[jnp.asarray(p, dtype) for p in parameters])

    @property
    def distribution(self):
        return self.oracle(*self.parameters(FEATURES))


COUNTS = np.arange(1500.0)
LINE = np.linspace(-60, 60, 12001)
NOT_FINITE = [(np.nan, "finite, got nan"), (-np.inf, "finite, got -inf")]
NOT_COUNTS = [(-1.0, "counts >= 0, got -1.0"), (2.5, "got 2.5"), (np.nan, "got nan")]
OUTSIDE = [(1.5, r"in \[0, 1\], got 1.5"), (-0.1, "got -0.1"), (np.nan, "got nan")]

CASES = {
    "Bernoulli": Case(
        Bernoulli, lambda l: stats.bernoulli(1 / (1 + np.exp(-l))), np.arange(2.0), OUTSIDE
    ),
    "FixedGaussian": Case(
        lambda: FixedGaussian(0.7), lambda m: stats.norm(m, 0.7), LINE, NOT_FINITE
    ),
    "FixedGaussian, a sigma per feature": Case(
        lambda: FixedGaussian(SIGMAS), lambda m: stats.norm(m, SIGMAS), LINE, NOT_FINITE
    ),
    "FixedGaussian, a learned sigma": Case(
        lambda: FixedGaussian(Learned(2.5, upper=4.0)),
        lambda m: stats.norm(m, 2.5),
        LINE,
        NOT_FINITE,
    ),
    "LearnedGaussian": Case(
        LearnedGaussian,
        lambda mean, log_sigma: stats.norm(mean, np.exp(log_sigma)),
        LINE,
        NOT_FINITE,
        parameters=lambda a: (a, 0.5 * a),
        pack=DiagonalGaussian,
    ),
    "StandardizedLikelihood, per feature": Case(
        lambda: StandardizedLikelihood(LearnedGaussian(), Fixed(SHIFTS), Fixed(SIGMAS)),
        lambda mean, log_sigma: stats.norm(SHIFTS + SIGMAS * mean, SIGMAS * np.exp(log_sigma)),
        LINE,
        NOT_FINITE,
        parameters=lambda a: (a, 0.5 * a),
        pack=DiagonalGaussian,
    ),
    "Categorical": Case(
        lambda: Categorical(4),
        OneHot,
        np.eye(4),
        parameters=lambda a: (np.stack([a, -a, 0 * a, a**2], axis=-1),),
    ),
    "Poisson": Case(Poisson, lambda l: stats.poisson(np.exp(l)), COUNTS, NOT_COUNTS),
    "NegativeBinomial": Case(
        NegativeBinomial,
        nbinom,
        COUNTS,
        NOT_COUNTS,
        parameters=lambda a: (a, 0.5 - a),
        pack=CountRate,
    ),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


@functools.cache
def draws(name: str) -> np.ndarray:
    """20,000 data points from the likelihood at FEATURES, in the suite's precision."""
    likelihood, output = CASES[name].make(), CASES[name].output()
    sample = jax.vmap(lambda key: likelihood.sample(output, key=key))
    return np.asarray(jax.jit(sample)(jax.random.split(jax.random.key(0), 20_000)))


@pytest.fixture
def x(request, case) -> np.ndarray:
    return draws(request.node.callspec.params["case"])


def test_log_prob_is_scipys(x, case, x64):
    x, output = x[:50].astype(np.float64), case.output()
    ours = jax.jit(jax.vmap(case.make().log_prob, (None, 0)))(output, jnp.asarray(x))
    distribution = case.distribution
    logs = getattr(distribution, "logpmf", None) or distribution.logpdf
    theirs = np.array([logs(one) for one in x]).reshape(len(x), -1)
    # Relative to the size of the six terms, which may cancel.
    assert np.all(np.abs(ours - theirs.sum(-1)) <= 1e-12 * np.abs(theirs).sum(-1))


@pytest.mark.parametrize(
    "case", [name for name in CASES if "per feature" not in name], indirect=True
)
def test_density_integrates_to_one(case, x64):
    """The trapezoidal rule is exact to rounding for a Gaussian with sigma > 3 of its steps."""
    output = case.output(FEATURES.ravel()[:, None])
    x = jnp.asarray(case.support)[:, None]
    log_prob = jax.vmap(jax.vmap(case.make().log_prob, (None, 0)), (0, None))
    log_density = jax.jit(log_prob)(output, x)
    width = LINE[1] - LINE[0] if case.support is LINE else 1.0
    np.testing.assert_allclose(jnp.exp(log_density).sum(1) * width, 1, rtol=1e-12)


def test_mean_is_scipys(case, x64):
    ours = case.make().mean(case.output())
    np.testing.assert_allclose(ours, case.distribution.mean(), rtol=1e-13)


def test_draws_have_mean_and_variance(x, case):
    """Within 4.5 standard errors of scipy's, each feature of 20,000 draws. In standard errors, a
    sigma or a rate 5% too large lies 10 and 19 off, a dispersion 30% too large 14, logits 5%
    (Bernoulli) and 10% (Categorical) too large 7 and 11."""
    distribution = case.distribution
    centerd = x.astype(np.float64) - distribution.mean()
    for moment, exact in [(centerd, 0), (centerd**2, distribution.var())]:
        error = moment.std(0) / np.sqrt(len(x))
        assert np.all(np.abs(moment.mean(0) - exact) <= 4.5 * error)


def test_draws_lie_in_the_support(x, case):
    case.make().check(x)
    assert x.shape[1:] == case.make().mean(case.output()).shape


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *[(name, "uint8") for name in ("Bernoulli", "Categorical", "Poisson", "NegativeBinomial")],
        *[(name, "int32") for name in ("Bernoulli", "Categorical", "Poisson", "NegativeBinomial")],
        ("Bernoulli", "bool"),
        ("Categorical", "bool"),
        ("LearnedGaussian", "uint8"),
        ("FixedGaussian", "uint8"),
    ],
)
def test_whole_data_need_not_be_floats(name, dtype):
    log_prob = eqx.filter_jit(CASES[name].make().log_prob)
    output = CASES[name].output(dtype=np.float32)
    x = np.eye(4)[[[0, 1, 2], [3, 3, 0]]] if name == "Categorical" else np.ones(FEATURES.shape)
    whole = log_prob(output, jnp.asarray(x, dtype))
    assert whole == log_prob(output, jnp.asarray(x, np.float32))
    assert whole.dtype == np.float32


def test_single_precision_stays_single(case, x64):
    likelihood, output = case.make(), case.output(dtype=np.float32)
    mean = jax.eval_shape(likelihood.mean, output)
    numbers = [
        mean,
        jax.eval_shape(lambda key: likelihood.sample(output, key=key), jax.random.key(0)),
        jax.eval_shape(likelihood.log_prob, output, mean),
    ]
    assert {number.dtype for number in numbers} == {np.dtype(np.float32)}


def test_wrong_shapes_are_refused(x, case):
    likelihood, output = case.make(), case.output()
    with pytest.raises(ShapeMismatch, match=r"jax\.vmap\(lambda x, key: f\(x, key=key\)\)"):
        likelihood.log_prob(output, jnp.asarray(x[:3]))
    with pytest.raises(ShapeMismatch, match="must have shape") as refusal:
        likelihood.log_prob(output, jnp.asarray(x[0, :1]))
    assert "vmap" not in str(refusal.value)


def test_nan_in_gives_nan_out(x, case):
    def holed(a):
        return jnp.asarray(a, float).at[(0,) * a.ndim].set(jnp.nan)

    log_prob = eqx.filter_jit(case.make().log_prob)
    output, one = case.output(), jnp.asarray(x[0])
    assert jnp.isnan(log_prob(output, holed(one)))
    assert jnp.isnan(log_prob(jax.tree.map(holed, output), one))


def test_check_names_the_value_and_where(x, case):
    for value, said in case.refused:
        bad = x[:2].copy()
        bad[1, 0, 2] = value
        with pytest.raises(ValueError, match=rf"{said}.* at index \(1, 0, 2\)"):
            case.make().check(bad)


@pytest.mark.parametrize("family", [Poisson(), NegativeBinomial()])
def test_an_infinite_count_is_refused(family):
    with pytest.raises(ValueError, match=r"got inf at index \(0, 1\)"):
        family.check(np.array([[1.0, np.inf]]))


@pytest.mark.parametrize("family", [Bernoulli(), Poisson(), NegativeBinomial()])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64", "float16", "float64"])
def test_check_takes_every_dtype(family, dtype):
    family.check(np.array([[0, 1]], dtype))


# The categorical's two forms of data.

LOGITS = np.array([[0.1, 2.0, -1.0], [0.0, 0.0, 5.0]])


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_integer_classes_are_one_hot_ones(dtype):
    value_and_grad = jax.jit(jax.value_and_grad(Categorical(3).log_prob))
    logits, classes = jnp.asarray(LOGITS, jnp.float32), jnp.array([2, 0], dtype)
    by_class = value_and_grad(logits, classes)
    by_row = value_and_grad(logits, jax.nn.one_hot(classes, 3, dtype=jnp.float32))
    for ours, theirs in zip(by_class, by_row, strict=True):
        # Numbers of order five: 5e-7.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("num_classes", "dtype", "wrong"),
    [
        (3, "int32", -1),
        (3, "int32", 3),
        (3, "uint8", 255),
        (3, "int8", -3),
        (200, "int8", -1),
        (3, "uint32", 4294967295),
        (3, "uint32", 2**31),
        (300, "uint16", 65535),
    ],
)
def test_a_class_out_of_range_is_no_number(num_classes, dtype, wrong):
    logits = jnp.zeros((2, num_classes))
    assert jnp.isnan(Categorical(num_classes).log_prob(logits, jnp.array([1, wrong], dtype)))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.array([[0, 1], [2, 3]]), r"classes 0 to 2, got 3 at index \(1, 1\)"),
        (np.array([[0, 1], [-1, 0]]), r"got -1 at index \(1, 0\)"),
        (np.array([[[0, 1, 0]], [[0, 1, 1]]]), r"one-hot along its last axis, .*index \(1, 0"),
        (np.array([[[0.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]]), r"one-hot .*index \(1, 0"),
        (np.array([[0.5, 0.5, 0.0]]), r"one-hot along its last axis, got 0.5 at index \(0, 0\)"),
        (np.array([[np.nan, 1.0, 0.0]]), r"one-hot .*got nan at index \(0, 0\)"),
    ],
)
def test_categorical_check_refuses(x, said):
    with pytest.raises(ValueError, match=said):
        Categorical(3).check(x)


def test_classes_in_as_many_features_as_classes():
    """Taken for one-hot unless it is told, by check as by mlp; before there was no way to tell."""
    x = np.array([[2, 0, 1], [1, 1, 0]])
    with pytest.raises(ValueError, match=r"one-hot.*use Categorical\(3, one_hot=False\)"):
        Categorical(3).check(x)
    told = Categorical(3, one_hot=False)
    told.check(x)
    with pytest.raises(ValueError, match="classes 0 to 2, got 3"):
        told.check(x + 1)
    with pytest.raises(ValueError, match=r"one-hot.*index \(0, 0\)\.$"):
        Categorical(3, one_hot=True).check(x)
    _, decoder = mlp((3,), 2, hidden=(4,), likelihood=told, key=jax.random.key(0))
    output = decoder(jnp.zeros(2))
    assert output.shape == (3, 3)
    log_p = np.log(np.asarray(told.mean(output), np.float64))
    np.testing.assert_allclose(
        decoder.log_likelihood(jnp.asarray(x[0]), output),
        log_p[np.arange(3), x[0]].sum(),
        rtol=1e-5,
    )


def test_256_classes_of_bytes_are_one_hot():
    """Seen to fail before: a sum of bytes wraps around, so 257 ones passed for one."""
    with pytest.raises(ValueError, match="one-hot"):
        Categorical(257).check(np.ones((1, 257), np.uint8))


# Infinite parameters: a certainty that is right costs nothing.


def test_an_infinite_logit_that_is_right_costs_nothing():
    """Seen to fail before: inf - inf, and 0 * inf, is NaN."""
    infinite = jnp.asarray([jnp.inf, -jnp.inf])
    log_prob = jax.value_and_grad(Bernoulli().log_prob)
    for bits, right in (([1, 0], True), ([0, 1], False)):
        for dtype in ("float32", "bool", "uint8"):
            value, slope = log_prob(infinite, jnp.asarray(bits, dtype))
            assert value == 0 if right else value < -1e38
            assert np.all(np.isfinite(slope))
    logits = jnp.asarray([[0.0, 0.0, -jnp.inf], [jnp.inf, 3.0, 0.0]])
    for x in (jnp.eye(3)[jnp.array([1, 0])], jnp.array([1, 0])):
        value, slope = jax.value_and_grad(Categorical(3).log_prob)(logits, x)
        np.testing.assert_allclose(value, -np.log(2), rtol=1e-6)
        assert np.all(np.isfinite(slope))
    impossible = Categorical(3).log_prob(logits, jnp.eye(3)[jnp.array([2, 0])])
    assert impossible == -jnp.inf


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_narrow_floats_are_computed_in_float32(name, dtype):
    """Outputs and data of 16 bits: the number of the same ones in float32. Seen to fail before:
    in 16 bits, and inf, for all but the standardized ones."""
    likelihood, output = CASES[name].make(), CASES[name].output(dtype=dtype)
    x = np.eye(4)[[[0, 1, 2], [3, 3, 0]]] if name == "Categorical" else np.full((2, 3), 7.0)
    x = np.ones((2, 3)) if name == "Bernoulli" else x
    narrow = likelihood.log_prob(output, jnp.asarray(x, dtype))
    wide = likelihood.log_prob(
        jax.tree.map(lambda a: a.astype(jnp.float32), output), jnp.asarray(x, jnp.float32)
    )
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, wide, rtol=1e-6)


def test_categorical_check_accepts():
    Categorical(3).check(np.eye(3)[[[0, 2], [1, 1]]])
    Categorical(3).check(np.array([0, 2, 1], np.uint8))


def test_logits_of_another_number_of_classes_are_refused():
    with pytest.raises(ShapeMismatch, match=r"decoder's logits must have shape \(2, 4\)"):
        Categorical(4).log_prob(jnp.zeros((2, 3)), jnp.zeros(2, int))


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.inf, np.nan, np.array([1.0, 0.0])])
def test_a_sigma_that_is_not_positive_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma must be finite and > 0"):
        FixedGaussian(sigma)


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes must be >= 1, got 0"):
        Categorical(0)


# float32 at the extremes: MATHS.md promises finite values, first and second derivatives, and
# their squares, for x to 1e4 and network outputs to 1e3.


RAW = [-1e3, -50.0, -10.0, 0.0, 10.0, 50.0, 1e3]
X = [-1e4, -1.0, 0.0, 1e4]


def assert_finite(f: Callable, *axes: list[float]) -> None:
    """f, its Jacobian, its Hessian, and their squares, at every point of a grid."""
    points = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=-1)
    all_three = jax.jit(
        jax.vmap(lambda point: (f(point), jax.jacobian(f)(point), jax.hessian(f)(point)))
    )
    for values in all_three(jnp.asarray(points, jnp.float32)):
        assert values.dtype == jnp.float32
        assert jnp.all(jnp.isfinite(values)) and jnp.all(jnp.isfinite(values**2))


@pytest.mark.parametrize("form", ["log", "softplus"])
def test_gaussian_heads_stay_finite(form):
    head = SigmaHead(lambda raw: raw, form=form)

    def log_prob(point):
        output = DiagonalGaussian(point[:1], head(point[1:2]))
        return LearnedGaussian().log_prob(output, point[2:])

    assert_finite(log_prob, RAW, RAW, X)


@pytest.mark.parametrize("form", ["log", "softplus"])
def test_encoder_heads_stay_finite(form):
    head = SigmaHead(lambda raw: raw, form=form)

    def encoder(point):
        q = DiagonalGaussian(point[:1], head(point[1:]))
        z, log_prob = q.sample_and_log_prob(key=jax.random.key(0))
        return jnp.stack([z[0], log_prob, q.kl_from_standard_normal(), q.entropy()])

    assert_finite(encoder, RAW, RAW)


def test_bernoulli_stays_finite():
    assert_finite(lambda p: Bernoulli().log_prob(p[:1], p[1:]), RAW, [0.0, 0.5, 1.0])


def test_categorical_stays_finite():
    def log_probs(logits):
        return jax.vmap(lambda x: Categorical(3).log_prob(logits, x))(jnp.eye(3, dtype=jnp.float32))

    assert_finite(log_probs, RAW, RAW, RAW)


def test_saturated_gradients_are_right():
    """At |logit| = 50 the gradient is x - p, with p the exact probability."""
    logits, x = np.float32([50, -50, 50, -50]), np.float32([0, 0, 1, 1])
    ours = jax.jit(jax.grad(Bernoulli().log_prob))(jnp.asarray(logits), jnp.asarray(x))
    exact = x - 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(ours, exact, rtol=1e-6, atol=1e-12)
    ours = jax.jit(jax.grad(Categorical(2).log_prob))(jnp.asarray(logits[:2]), jnp.array(1))
    np.testing.assert_allclose(ours, [-1, 1], rtol=1e-6)


def test_negative_binomial_at_large_dispersion_in_float32():
    """At r = 2e4, where a difference of lgammas would be 1e-2 nats off. The terms are of order 30
    and carry 30 eps = 4e-6."""
    output = CountRate(jnp.float32([1.0, 3.0]), jnp.float32([10.0, 9.0]))
    x = np.array([3.0, 18.0])
    exact = nbinom(np.array([1.0, 3.0]), np.array([10.0, 9.0])).logpmf(x)
    ours = jax.jit(NegativeBinomial().log_prob)(output, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(ours, exact.sum(), rtol=0, atol=1e-4)
