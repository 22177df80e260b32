"""Intervals and cells of imputed DataFrames, from draws that are given."""

import numpy as np
import pandas as pd
import pytest

import hvax
from hvax.evaluation.imputation import Imputed
from hvax.pipeline.imputed_table import ImputedTable

N = 120
FRAME = pd.DataFrame(
    {
        "month": np.arange(N) % 5 + 5.0,
        "city": np.array(["Basel", "Bern", "Genf"])[np.arange(N) % 3],
        "size": np.random.default_rng(0).normal(size=N),
    },
    index=[f"row {i}" for i in range(N)],
)


@pytest.fixture(scope="module")
def found():
    """Missing are the month of row 1, with draws of 5 to 9; its city, of Basel but for 20 of 99;
    and the size of row 3, with draws -49 to 49."""
    frame = FRAME.copy()
    frame.loc["row 1", ["month", "city"]] = np.nan
    frame.loc["row 3", "size"] = np.nan
    table = hvax.Table.infer(frame)
    x = table.encode(frame)
    months, cities = np.arange(99) // 20, np.where(np.arange(99) < 79, 0, 2)
    draws = np.stack([months, cities, np.arange(99) - 49], axis=1).astype(float)
    means = np.array([2.0, 0.0, 0.0])
    imputed = Imputed(x, np.isnan(x), means, draws, np.ones(len(x)))
    return ImputedTable(frame, table, imputed)


def test_classes_that_are_numbers_have_intervals(found):
    """Ranks 5 and 95 of 99 draws are 5 and 9, ranks 25 and 75 are 6 and 8: a class each."""
    assert found.table.modeled[0].kind == "category"
    low, high = found.interval(0.9)
    assert (low.loc["row 1", "month"], high.loc["row 1", "month"]) == (5, 9)
    low, high = found.interval(0.5)
    assert (low.loc["row 1", "month"], high.loc["row 1", "month"]) == (6, 8)
    low, _ = found.interval(0.59)  # rank 20.5, between the last 5 and the first 6
    assert low.loc["row 1", "month"] == 5
    low, high = found.interval(0.5)
    assert (low.loc["row 3", "size"], high.loc["row 3", "size"]) == (-25, 25)
    assert found.mean.loc["row 1", "month"] == 7


def test_other_classes_have_the_most_probable_one_twice(found):
    low, high = found.interval(0.9)
    assert low.loc["row 1", "city"] == high.loc["row 1", "city"] == "Basel"


def test_cells_are_numbered_from_0_whatever_the_index(found):
    cells = found.cells(0.9)
    assert cells["row"].tolist() == [1, 1, 3]
    assert cells["column"].tolist() == ["month", "city", "size"]
    assert cells["class"].tolist()[:2] == ["7", "Basel"]
    np.testing.assert_allclose(cells["probability"][:2], [20 / 99, 79 / 99])
    np.testing.assert_array_equal(cells["low"], [5, np.nan, -45])
    np.testing.assert_array_equal(cells["high"], [9, np.nan, 45])
    assert np.isnan(cells["value"][0]) and cells["value"][2] == 0


def test_whole_numbers_as_categories_are_noted():
    parts = hvax.load_parts(FRAME)
    note = next(note for note in parts.notes if "categories" in note)
    assert "month (to take them as numbers: kinds={'month': 'real'})" in note
    asked = hvax.load_parts(FRAME, kinds={"month": "category"})
    assert not [note for note in asked.notes if "categories" in note]
