"""What the estimator gives: codes, densities, samples, filled rows; and how it is told what."""

import pickle
import signal
import subprocess
import sys
import threading

import jax
import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

import hvax
from estimator.conftest import SMALL, holes, line
from hvax.models.inputs import MaskedInput
from hvax.sklearn import HVAE
from hvax.sklearn.training import held_out

pytestmark = pytest.mark.filterwarnings("ignore::hvax.exceptions.HvaxWarning")


def test_transform_is_the_mean_of_the_encoder(fitted, x):
    expected = hvax.encode(fitted.model_, x, progress=False).mean
    np.testing.assert_allclose(fitted.transform(x), expected, rtol=1e-5, atol=1e-6)
    assert fitted.transform(x).dtype == np.float64
    assert fitted.transform(x.astype(np.float32)).dtype == np.float32


def test_a_row_depends_on_itself_alone(fitted, x):
    """To the last bit, in codes and in densities: whatever rows stand beside it, and where."""
    some = np.random.default_rng(0).permutation(len(x))[:17]
    for method in (fitted.transform, fitted.score_samples):
        np.testing.assert_array_equal(method(x)[some], method(x[some]))
        np.testing.assert_array_equal(method(x)[3:4], method(x[3:4]))


def test_score_is_the_log_likelihood(fitted, x):
    estimator = pickle.loads(pickle.dumps(fitted)).set_params(n_samples=500)
    scores = estimator.score_samples(x)
    exact = hvax.evaluate(
        fitted.model_, x, key=jax.random.key(5), num_samples=2000, progress=False
    ).per_point.log_p
    assert np.abs(scores - exact).mean() < 0.1
    assert estimator.score(x) == pytest.approx(scores.mean())
    few = estimator.set_params(n_samples=1).score(x)
    assert few < estimator.set_params(n_samples=500).score(x)


def test_equal_rows_have_equal_scores_and_others_other_noise(fitted, x):
    twice = np.concatenate([x[:5], x[:5]])
    scores = fitted.score_samples(twice)
    np.testing.assert_array_equal(scores[:5], scores[5:])
    from hvax.data.examples import Examples
    from hvax.evaluation.rows import numbers_of_content

    assert len(set(numbers_of_content(Examples(x)))) == len(x)
    zeros = np.array([[0.0, np.nan], [-0.0, -np.nan]])
    assert len(set(numbers_of_content(Examples(zeros, holes=True)))) == 1


def test_back_to_the_data(fitted, x):
    codes = fitted.transform(x)
    back = fitted.inverse_transform(codes)
    np.testing.assert_array_equal(back, hvax.decode(fitted.model_, codes, progress=False))
    assert back.shape == x.shape and back.dtype == np.float64
    with pytest.raises(ValueError, match="Z must have 2 columns, one for each component, got 3"):
        fitted.inverse_transform(np.zeros((4, 3)))


def test_samples_follow_their_random_state(fitted):
    first = fitted.sample(20, random_state=1)
    assert first.shape == (20, 5)
    np.testing.assert_array_equal(first, fitted.sample(20, random_state=1))
    assert not np.array_equal(first, fitted.sample(20, random_state=2))
    assert not np.array_equal(fitted.sample(), fitted.sample())


def test_missing_values_are_filled_and_others_kept(fitted, x):
    gaps = holes(x)
    missing = np.isnan(gaps)
    filled, draws, low, high = fitted.impute(gaps, return_draws=True, interval=0.8, n_draws=20)
    for found in (filled, *draws, low, high):
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found[~missing], x[~missing])
    assert draws.shape == (20, *x.shape) and draws[:, missing].std(axis=0).min() > 0
    assert np.all(low[missing] < high[missing])
    np.testing.assert_array_equal(filled, fitted.impute(gaps, n_draws=20))
    np.testing.assert_array_equal(fitted.impute(x), x)
    assert np.isfinite(fitted.transform(gaps)).all() and np.isfinite(fitted.score(gaps))


def test_it_learns_from_rows_with_missing_values():
    x = line(400)
    gaps = holes(x)
    plan = SMALL | {"hidden": (32,), "max_epochs": 60, "flow": None}
    estimator = HVAE(**plan).fit(gaps)
    assert isinstance(estimator.model_.encoder.network, MaskedInput)
    missing = np.isnan(gaps)
    means = np.broadcast_to(np.nanmean(gaps, axis=0), x.shape)
    error, plain = (np.mean((y - x)[missing] ** 2) for y in (estimator.impute(gaps), means))
    assert error < 0.5 * plain


def test_the_seed_decides(fitted, x):
    again = clone(fitted).fit(x)
    # To rounding: a program compiled for another test may serve one of the two.
    np.testing.assert_allclose(again.transform(x), fitted.transform(x), rtol=1e-4, atol=1e-5)
    assert again.score(x) == pytest.approx(fitted.score(x), rel=1e-4)
    other = clone(fitted).set_params(random_state=1).fit(x)
    assert not np.array_equal(other.transform(x), fitted.transform(x))
    unseeded = [clone(fitted).set_params(random_state=None).fit(x).score(x) for _ in range(2)]
    assert unseeded[0] != unseeded[1]
    shared = np.random.RandomState(0)
    one, two = (clone(fitted).set_params(random_state=shared).fit(x).score(x) for _ in range(2))
    assert one != two


def test_it_is_stored_whole(fitted, x, tmp_path):
    joblib.dump(fitted, tmp_path / "model.joblib")
    for stored in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "model.joblib")):
        check_is_fitted(stored)
        np.testing.assert_array_equal(stored.transform(x), fitted.transform(x))
        assert stored.score(x) == fitted.score(x) and stored.history_ == fitted.history_


def test_what_fit_leaves(fitted):
    assert fitted.n_iter_ == len(fitted.history_) == 2
    assert fitted.n_features_in_ == 5 and fitted.table_ is None
    assert list(fitted.get_feature_names_out()) == ["hvae0", "hvae1"]
    assert isinstance(fitted.model_, hvax.HVAE) and "validation_elbo" in fitted.history_[0]
    assert fitted.__sklearn_tags__().input_tags.allow_nan


def test_likelihoods():
    chance = np.random.default_rng(0)
    counts = chance.poisson(np.exp(chance.normal(1, 1, size=(60, 5))))
    families = {
        "auto": (counts.astype(float), hvax.NegativeBinomial),
        "poisson": (counts, hvax.Poisson),
        "fixed-gaussian": (line(), hvax.FixedGaussian),
        "categorical": (counts % 3, hvax.Categorical),
        "bernoulli": ((counts > 2).astype(float), hvax.Bernoulli),
    }
    for name, (x, family) in families.items():
        estimator = HVAE(**SMALL, likelihood=name, flow=None).fit(x)
        assert isinstance(estimator.model_.decoder.likelihood, family)
        assert np.isfinite(estimator.score(x))
        back = estimator.inverse_transform(estimator.transform(x))
        assert back.shape == x.shape == estimator.sample(60).shape
        if name == "categorical":
            assert set(np.unique(back)) <= {0, 1, 2}
    bits = HVAE(**SMALL, flow=None).fit((counts > 2).astype(float))
    assert isinstance(bits.model_.decoder.likelihood, hvax.Bernoulli)


def test_a_positive_column_may_turn_out_not_to_be():
    """No logarithm is taken for being positive so far; a run of the program would take it."""
    x = np.exp(3 * line(100))
    estimator = HVAE(**SMALL, flow=None).fit(x)
    assert "log" not in estimator.model_.decoder.likelihood.transform.kinds
    x[:3] = 0.0
    assert np.isfinite(estimator.score_samples(x)).all()


@pytest.mark.parametrize("rows", [2, 3, 9, 20, 39])
def test_few_rows(rows):
    x = line(rows)
    estimator = HVAE(**SMALL, flow=None).fit(x)
    assert "validation_elbo" not in estimator.history_[0]
    assert np.isfinite(estimator.transform(x)).all() and np.isfinite(estimator.score(x))


def test_rows_for_validation():
    x = line(40)
    parts = held_out(x, 0.1, 3)
    assert len(parts.validation) == 4 and len(parts.train) == 36 and len(parts.test) == 0
    assert sorted([*parts.train, *parts.validation]) == list(range(40))
    for fraction, rows in ((0.0, x), (0.1, x[:30])):
        assert len(held_out(rows, fraction, 3).validation) == 0
    x[:, 2] = np.nan
    x[parts.validation, 2] = 1.0
    assert len(held_out(x, 0.1, 3).train) == 40


WRONG = {
    "n_components must be >= 1, got 0": {"n_components": 0},
    "max_epochs must be an integer, got 2.5": {"max_epochs": 2.5},
    "batch_size must be >= 1": {"batch_size": -1},
    "patience must be >= 0": {"patience": -1},
    "n_samples must be >= 1": {"n_samples": 0},
    "learning_rate must be finite and > 0": {"learning_rate": 0.0},
    "validation_fraction must be >= 0 and < 1, got 1": {"validation_fraction": 1},
    "validation_fraction must be a number": {"validation_fraction": "a tenth"},
    "hidden must be sizes of layers": {"hidden": ()},
    "each number of hidden must be >= 1": {"hidden": (0,)},
    "kinds must be a dict": {"kinds": ["real"]},
    "kinds must be given only with a DataFrame": {"kinds": {"a": "real"}},
    "unseen must be 'refuse' or 'missing'": {"unseen": "ignore"},
    "flow must be a name, an hvax.AbstractFlow or None": {"flow": 3},
    "flow must be one of": {"flow": "daiss"},
    "`likelihood` must be one of": {"likelihood": "gausian"},
    "`likelihood` mixed is for a table": {"likelihood": "mixed"},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_suit_is_named(message, x):
    with pytest.raises((ValueError, TypeError), match=message):
        HVAE(**SMALL | WRONG[message]).fit(x)


def test_a_column_without_any_value_is_named(x):
    gaps = x.copy()
    gaps[:, 1] = np.nan
    with pytest.raises(ValueError, match="column 1"):
        HVAE(**SMALL).fit(gaps)


def test_interrupts_are_those_of_python(x):
    handler = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(3.0, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        HVAE(**SMALL | {"max_epochs": 10_000_000, "patience": 0}).fit(x)
    timer.join()
    assert signal.getsignal(signal.SIGINT) is handler


def test_without_scikit_learn_the_extra_is_named():
    program = "import sys; sys.modules['sklearn'] = None\nimport hvax\nimport hvax.sklearn"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1 and "Install hvax[sklearn]." in done.stderr
