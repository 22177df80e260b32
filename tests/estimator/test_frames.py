"""DataFrames with columns of several kinds, in and out."""

import numpy as np
import pandas
import polars
import pytest

import hvax
from estimator.conftest import SMALL, line
from hvax.models.mixed import MixedLikelihood
from hvax.sklearn import HVAE

pytestmark = pytest.mark.filterwarnings("ignore::hvax.exceptions.HvaxWarning")
PLAIN = SMALL | {"flow": None}


def people(n=80):
    chance = np.random.default_rng(0)
    z = chance.normal(size=n)
    return pandas.DataFrame(
        {
            "height": 170 + 10 * z + chance.normal(size=n),
            "city": np.array(["Rome", "Oslo", "Bern"])[(z > -0.5).astype(int) + (z > 0.5)],
            "smokes": z + chance.normal(size=n) > 0,
            "children": chance.poisson(np.exp(0.3 * z)),
            "country": ["here"] * n,
        },
        index=np.arange(n) + 100,
    )


@pytest.fixture(scope="module")
def gaps():
    frame = people()
    chance = np.random.default_rng(1)
    for name in ("height", "city"):
        frame[name] = frame[name].mask(chance.random(len(frame)) < 0.2)
    return frame


@pytest.fixture(scope="module")
def mixed(gaps):
    return HVAE(**PLAIN).fit(gaps)


def test_kinds_are_inferred(mixed):
    kinds = [column.kind for column in mixed.table_.columns]
    assert kinds == ["real", "category", "binary", "count", "ignored"]
    assert isinstance(mixed.model_.decoder.likelihood, MixedLikelihood)
    assert mixed.n_features_in_ == 5 and mixed.feature_names_in_[0] == "height"


def test_codes_and_scores(mixed, gaps):
    codes = mixed.transform(gaps)
    assert codes.shape == (80, 2) and np.isfinite(mixed.score_samples(gaps)).all()
    some = gaps.iloc[[5, 3]]
    np.testing.assert_array_equal(mixed.transform(some), codes[[5, 3]])
    np.testing.assert_array_equal(mixed.score_samples(some), mixed.score_samples(gaps)[[5, 3]])


def test_frames_come_back(mixed, gaps):
    made = mixed.inverse_transform(mixed.transform(gaps))
    assert list(made.columns) == ["height", "city", "smokes", "children"]
    assert set(made["city"]) <= {"Rome", "Oslo", "Bern"} and made["smokes"].dtype == bool
    assert list(mixed.sample(3, random_state=0).columns) == list(made.columns)


def test_missing_cells_are_filled_and_others_kept(mixed, gaps):
    filled, draws, low, high = mixed.impute(gaps, return_draws=True, interval=0.5, n_draws=5)
    assert len(draws) == 5
    for frame in (filled, *draws, low, high):
        assert not frame.isna().any(axis=None)
        assert list(frame.columns) == list(gaps.columns) and frame.index.equals(gaps.index)
        pandas.testing.assert_frame_equal(frame.where(gaps.notna()), gaps, check_dtype=False)
    assert filled["children"].dtype == gaps["children"].dtype


def test_a_class_that_was_not_seen(mixed, gaps):
    """A fold of a cross-validation may have one."""
    other, gap = gaps.copy(), gaps.copy()
    other.iloc[0, 1], gap.iloc[0, 1] = "Cairo", None
    with pytest.warns(hvax.exceptions.UnseenClass, match="city \\('Cairo'\\)"):
        scores = mixed.score_samples(other)
    np.testing.assert_array_equal(scores, mixed.score_samples(gap))
    strict = HVAE(**PLAIN, unseen="refuse").fit(gaps)
    with pytest.raises(ValueError, match=r"city: must be one of .*, got 'Cairo' in row 0"):
        strict.transform(other)


def test_kinds_and_likelihoods_as_asked(gaps):
    asked = HVAE(**PLAIN, kinds={"children": "real", "city": "ignored"}).fit(gaps)
    assert [column.kind for column in asked.table_.modeled] == ["real", "binary", "real"]
    numbers = HVAE(**PLAIN, likelihood="gaussian").fit(gaps.drop(columns="smokes"))
    assert [column.name for column in numbers.table_.modeled] == ["height", "children"]
    mixed = HVAE(**PLAIN, likelihood="mixed").fit(pandas.DataFrame(line(), columns=list("abcde")))
    assert isinstance(mixed.model_.decoder.likelihood, MixedLikelihood)


def test_polars(gaps):
    pytest.importorskip("pyarrow")  # by which polars reads pandas
    frame = polars.from_pandas(gaps)
    estimator = HVAE(**PLAIN).fit(frame).set_output(transform="polars")
    assert isinstance(estimator.transform(frame), polars.DataFrame)
    filled = estimator.impute(frame)
    assert filled.schema == frame.schema and filled.null_count().sum_horizontal()[0] == 0


def test_an_array_stands_for_a_frame_of_numbers():
    x = line()
    frame = pandas.DataFrame(x, columns=list("abcde"))
    estimator = HVAE(**PLAIN).fit(frame)
    with pytest.warns(UserWarning, match="valid feature names"):
        np.testing.assert_array_equal(estimator.transform(x), estimator.transform(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(frame[list("edcba")])


def test_one_row_is_too_few(gaps):
    with pytest.raises(ValueError, match="at least 2 rows to fit HVAE, got 1 sample"):
        HVAE(**PLAIN).fit(gaps[:1])
