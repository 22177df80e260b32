"""Tables that a schema refuses, each with a message that names column and row, and its options."""

import re
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

import hvax
from hvax import Table

N = 30
RNG = np.random.default_rng(1)
FRAME = pd.DataFrame(
    {
        "height": RNG.normal(170, 10, N),
        "kids": RNG.poisson(2, N),
        "sex": ["f", "m", "m"] * (N // 3),
        "city": ["Bern", "Basel", "Genf"] * (N // 3),
        "weight": RNG.uniform(1, 2, N),
        "id": np.arange(N),
    }
)
TABLE = Table.infer(FRAME, kinds={"weight": "positive"})


def with_column(values, name="a"):
    """The frame with one more column, whose first cells these are."""
    filler = [values[0]] * (N - len(values))
    column = np.empty(N, object)
    column[:] = [*values, *filler]
    return FRAME.assign(**{name: column})


@pytest.mark.parametrize(
    ("frame", "kind", "message"),
    [
        (np.zeros((3, 2)), TypeError, "Give its columns names: {'height': x[:, 0], ...}"),
        (3, TypeError, "must be a DataFrame (pandas, polars, pyarrow, ...), a dict of arrays"),
        (FRAME["kids"], TypeError, ".to_frame()"),
        (pl.DataFrame({"a": [1, 2]}).lazy(), TypeError, "Read it with .collect()"),
        ({}, ValueError, "must have at least one column, got none"),
        (FRAME.iloc[:0], ValueError, "Give at least one row"),
        ({"a": np.zeros(3), "b": np.zeros(2)}, ValueError, "of the lengths [2, 3]"),
        ({"a": np.zeros((3, 2))}, ValueError, "column 'a' must be an array (n,), got shape (3, 2)"),
        ({"a": [1, 2], 3: [1, 2]}, TypeError, "or all be integers, got int, str"),
        (pd.concat([FRAME, FRAME], axis=1), ValueError, "got 'height', 'kids', 'sex', 'city'"),
        ("table.xlsx", ValueError, "must end in .csv, .tsv, .txt or .parquet, got table.xlsx"),
        ("none.parquet", FileNotFoundError, "must be a .parquet file, got no such file"),
        (with_column([1, 2, "x"]), ValueError, "'a' must hold values of one type, got 'x' (str) "
         "in row 2 after 1 (int) in row 0"),
        (with_column([None, True, 2]), ValueError, "got 2 (int) in row 2 after True (bool) in row"),
        (with_column([[1], [2]]), ValueError, "must hold numbers, text or booleans, got a list"),
        (with_column(["1.5", "2", "oops"]), ValueError, "'a' must hold numbers or text, got 'oops' "
         "in row 2 among numbers"),
        (with_column([1.0, np.inf]), ValueError, "'a' must hold finite numbers, got inf in row 1"),
        (pd.DataFrame({"a": [1.0, 1.0]}), ValueError, "at least one modeled column, got a: one "
         "value only: 1.0"),
    ],
)  # fmt: skip
def test_a_frame_is_refused(frame, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        Table.infer(frame)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"hight": "real"}, "got 'hight', which is none of them"),
        ({"sex": "text"}, "must be one of real, positive, binary, category, count, ignored"),
        ({"sex": "real"}, "'sex', to be real, must hold numbers, got text: 'f', 'm'"),
        ({"kids": "positive"}, "'kids', to be positive, must hold numbers > 0, got 0"),
        ({"height": "count"}, "'height', to be count, must hold whole numbers >= 0, got numbers"),
        ({"city": "binary"}, "must hold two values, got text: 'Basel', 'Bern', 'Genf'"),
        ({"sex": "label", "city": "label"}, "at most one label column, got sex, city"),
        (dict.fromkeys(FRAME.columns, "ignored"), "must have at least one modeled column"),
    ],
)
def test_a_kind_is_refused(kinds, message):
    """By infer and by with_kinds, which knows no more than the schema."""
    for refused in (lambda: Table.infer(FRAME, kinds=kinds), lambda: TABLE.with_kinds(kinds)):
        with pytest.raises(ValueError, match=re.escape(message)):
            refused()


def test_kinds_of_dates_and_many_texts_are_refused():
    frame = FRAME.assign(
        day=pd.Timestamp("2020-01-01"), name=[f"n{i}" for i in range(N)], empty=np.nan
    )
    table = Table.infer(frame, max_categories=20)
    for name, kind, message in [
        ("day", "real", "got dates. Add a column of your own, such as the days since a start"),
        ("name", "category", "at least two values, and not too many, got"),
        ("empty", "real", "hold numbers, got no values"),
    ]:
        with pytest.raises(ValueError, match=message):
            table.with_kinds({name: kind})
    with pytest.raises(ValueError, match="text of many values"):
        Table.infer(frame, kinds={"name": "category"}, max_categories=20)
    many = Table.infer(frame, kinds={"name": "category"})
    assert len(many.modeled[-1].values) == N and many.modeled[-1].name == "name"


def test_all_that_does_not_fit_is_told_at_once():
    """Column by column, in one error."""
    new = pd.DataFrame(
        {
            "kids": [1.0, 2.5],
            "height": ["tall", "short"],
            "city": ["Bern", "Chur"],
            "weight": [1.0, -2.0],
        }
    )
    with pytest.raises(ValueError, match="got 5 that do not fit") as error:
        TABLE.encode(new)
    for line in (
        "height: must hold numbers, got 'tall' in row 0",
        "kids: must be whole and >= 0, got 2.5 in row 1",
        "sex: is absent",
        "city: must be one of 'Basel', 'Bern', 'Genf', got 'Chur' in row 1",
        "weight: must be > 0, got -2 in row 1",
    ):
        assert f"\n    {line}" in str(error.value)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("height", [1.0, -np.inf], "height: must be finite, got -inf in row 1"),
        ("height", [1, "a"], "height: must hold values of one type, got 'a'"),
        ("height", pd.to_datetime(["2020-01-01"] * 2), "height: must hold numbers, got dates"),
        ("city", [1.0, 2.0], "city: must hold text, got numbers (Float64)"),
        ("kids", [-1, 0], "kids: must be whole and >= 0, got -1 in row 0"),
    ],
)
def test_cells_that_do_not_fit_are_refused(name, values, message):
    new = FRAME.iloc[:2].drop(columns=name).assign(**{name: values})
    with pytest.raises(ValueError, match=re.escape(message)):
        TABLE.encode(new)


def test_unseen_classes_may_count_as_missing():
    new = FRAME.iloc[:3].assign(city=["Bern", "Chur", None], sex=["f", "x", "m"])
    with pytest.warns(hvax.exceptions.UnseenClass, match=r"sex \('x'\); city \('Chur'\)"):
        x = TABLE.encode(new, unseen="missing")
    names = [column.name for column in TABLE.modeled]
    np.testing.assert_array_equal(x[:, names.index("city")], [1, np.nan, np.nan])
    np.testing.assert_array_equal(x[:, names.index("sex")], [0, np.nan, 1])
    with pytest.raises(ValueError, match="unseen must be 'refuse' or 'missing', got 'drop'"):
        TABLE.encode(new, unseen="drop")


def test_unknown_columns_are_not_used():
    new = FRAME.iloc[:3].assign(extra=1.0, more="a")
    with pytest.warns(hvax.exceptions.UnknownColumn, match="new.csv has columns .*: extra, more"):
        x = TABLE.encode(new, name="new.csv")
    np.testing.assert_array_equal(x, TABLE.encode(FRAME.iloc[:3]))


def test_order_and_ignored_columns_do_not_matter():
    shuffled = FRAME[["city", "weight", "sex", "height", "kids"]]
    np.testing.assert_array_equal(TABLE.encode(shuffled), TABLE.encode(FRAME))


def test_a_new_table_may_hold_numbers_otherwise():
    """As text, Decimals, or with a column without any value."""
    new = FRAME.iloc[:2].assign(
        height=["170.5", "?"], kids=[Decimal(1), None], city=[None, None], weight=[1, 2]
    )
    x = TABLE.encode(new)
    expected = {"height": [170.5, np.nan], "kids": [1, np.nan], "city": [np.nan, np.nan]}
    for column, values in zip(TABLE.modeled, x.T, strict=True):
        if column.name in expected:
            np.testing.assert_array_equal(values, expected[column.name], err_msg=column.name)


def test_labels_and_conditions_are_read():
    kinds = {"city": "label", "sex": "condition", "height": "condition"}
    table = Table.infer(FRAME, kinds=kinds)
    assert [column.name for column in table.modeled] == ["kids", "weight"]
    assert table.labels(FRAME).tolist() == FRAME["city"].tolist()
    assert table.labels(FRAME.drop(columns="city")) is None
    conditions = table.conditions(FRAME)
    height = FRAME["height"].to_numpy()
    expected = [(height - height.mean()) / height.std(), FRAME["sex"] == "f", FRAME["sex"] == "m"]
    np.testing.assert_allclose(conditions, np.stack(expected, axis=1), rtol=1e-12)
    assert TABLE.labels(FRAME) is None and TABLE.conditions(FRAME) is None
    with pytest.raises(ValueError, match="'height' must have no missing values, got one in row 2"):
        table.conditions(FRAME.assign(height=[*height[:2], np.nan, *height[3:]]))
    numbered = Table.infer(FRAME, kinds={"kids": "label"})
    labels = numbered.labels(FRAME)
    assert labels.dtype == np.int64 and labels.tolist() == FRAME["kids"].tolist()


def test_columns_are_taken_and_left_out():
    taken = Table.infer(FRAME, columns=["kids", "city"])
    assert [column.name for column in taken.modeled] == ["kids", "city"]
    left = Table.infer(FRAME, leave_out=["kids", "city"])
    assert [column.name for column in left.modeled] == ["height", "sex", "weight"]
    with pytest.raises(ValueError, match="got 'Kids', which is none of them"):
        Table.infer(FRAME, leave_out=["Kids"])


def test_the_listing_fits_in_80_columns():
    long = "a very long name of a column that nobody would type"
    frame = FRAME.assign(**{long: [f"town number {i % 7}" for i in range(N)]})
    table = Table.infer(frame)
    lines = repr(table).splitlines()
    assert lines[0] == "Table: 30 rows, 7 columns, 6 of them modeled"
    assert len(lines) == 2 + len(table.columns) and all(len(line) <= 80 for line in lines)
    assert len({len(line) for line in lines[1:]}) == 1, "aligned"
    assert "city" in lines[5] and "3: Basel, Bern, Genf" in lines[5]
    assert "(the row number)" in repr(table)
    assert "  real  " in repr(table.with_kinds(kids="real"))
