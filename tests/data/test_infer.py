"""The rules by which a column gets its kind, at their borders."""

import numpy as np
import pandas as pd
import pytest

from hvax import Table
from hvax.data.count_test import look_like_counts

N = 200
RNG = np.random.default_rng(3)


def kind_of(values, **options):
    """Of a column beside another that is modeled."""
    frame = pd.DataFrame({"a": values, "other": RNG.normal(size=len(values))})
    column = Table.infer(frame, **options).columns[0]
    return column.kind, column.note


@pytest.mark.parametrize(
    ("values", "kind", "note"),
    [
        (RNG.poisson(3, N), "count", ""),
        (np.where(np.arange(N) % 7 == 0, np.nan, RNG.poisson(3, N)), "count", ""),
        (RNG.poisson(30, N) - 40, "real", ""),
        (RNG.negative_binomial(2, 0.02, N), "count", ""),
        (RNG.integers(1980, 2020, N), "real", ""),
        (RNG.choice([1, 2, 3], N, p=[0.1, 0.1, 0.8]), "category", ""),
        (RNG.choice([2.5, 7.5], N), "binary", ""),
        (np.where(RNG.random(N) < 0.5, 1.0, np.nan), "ignored", "one value only: 1.0"),
        (np.exp(RNG.normal(0, 1, N)), "positive", ""),
        (np.where(np.arange(N) == 5, 0.0, np.exp(RNG.normal(0, 1, N))), "real", ""),
        (np.exp(RNG.normal(5, 0.02, N)), "real", ""),
        (np.arange(N), "ignored", "the row number"),
        (np.arange(1, N + 1), "ignored", "the row number"),
        (np.arange(2, N + 2), "real", ""),
        (np.full(N, np.nan), "ignored", "no values"),
        (RNG.integers(2**60, 2**61, N), "ignored", "whole numbers of more than 15 digits, as of "
         "identifiers"),
        ([f"name {i}" for i in range(N)], "ignored", "nearly every row has a text of its own"),
        ([f"name {i % 80}" for i in range(N)], "ignored", "80 different texts"),
        ([f"name {i % 50}" for i in range(N)], "category", ""),
        ([f"0{i % 10}" for i in range(N)], "category", ""),
        ([f"{i % 10}" for i in range(N)], "category", ""),
        ([f"{v:.3f}" for v in RNG.normal(size=N)], "real", ""),
        (["yes"] * (N - 1) + ["no"], "binary", ""),
        (["a"] * (N - 2) + ["b", "c"], "category", ""),
        (["1/2/2020", "13.4.2021", "2022-01-01", None] * (N // 4), "ignored", "dates: add columns "
         "of your own, such as days since a start, or the month"),
        (pd.to_timedelta(np.arange(N), unit="h"), "ignored", "dates: add columns of your own, such "
         "as days since a start, or the month"),
    ],
)  # fmt: skip
def test_the_kind_of(values, kind, note):
    assert kind_of(values) == (kind, note)


def test_an_index_may_have_gaps_under_its_name_only():
    """Rows were left out of the file."""
    gaps = np.delete(np.arange(N + 20), RNG.permutation(N + 18)[:20] + 1)
    frame = pd.DataFrame({"row": gaps, "steps": gaps, "other": RNG.normal(size=N)})
    table = Table.infer(frame)
    assert [column.kind for column in table.columns] == ["ignored", "real", "real"]


def test_categories_are_limited_as_asked():
    texts = [f"name {i % 20}" for i in range(N)]
    assert kind_of(texts, max_categories=10)[0] == "ignored"
    assert kind_of(texts, max_categories=20)[0] == "category"


def test_declared_categories_stay_though_none_is_seen():
    values = pd.Categorical(["b", "c"] * (N // 2), categories=["c", "a", "b"])
    frame = pd.DataFrame({"a": values, "other": RNG.normal(size=N)})
    table = Table.infer(frame)
    assert table.columns[0].kind == "category" and table.columns[0].values == ("c", "a", "b")
    assert table.encode(frame)[:2, 0].tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    "x",
    [
        RNG.poisson(0.3, N), RNG.poisson(20, N), RNG.negative_binomial(1, 0.05, N),
        RNG.negative_binomial(2, 1e-5, N), RNG.poisson([0.3, 20.0, 5.0], (N, 3)),
        np.where(RNG.uniform(size=(N, 2)) < 0.3, np.nan, RNG.poisson([0.3, 20.0], (N, 2))),
    ],
)  # fmt: skip
def test_counts_are_told(x):
    assert look_like_counts(x)


@pytest.mark.parametrize(
    "x",
    [
        RNG.integers(1980, 2020, N), RNG.normal(1000, 5, N).round(), RNG.normal(60, 3, N).round(),
        RNG.normal(60, 3, (N, 4)).round(),
    ],
)  # fmt: skip
def test_rounded_measurements_are_no_counts(x):
    assert not look_like_counts(x)


def test_what_no_count_can_be():
    assert look_like_counts(np.array([0.0, 1.0, 3.0, 0.0]))
    assert not look_like_counts(np.array([0.0, 1.5, 3.0, 0.0]))
    assert not look_like_counts(np.array([0.0, -1.0, 3.0, 0.0]))
    assert not look_like_counts(np.array([0.0, 2e6, 3.0, 0.0]))
