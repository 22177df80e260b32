"""The schema of a table: the kind of each column, and from DataFrames to numbers and back."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets

from hvax import Table

N = 200
KINDS = {
    "id": "ignored", "height": "real", "income": "positive", "kids": "count", "smoker": "binary",
    "sex": "binary", "city": "category", "born": "ignored", "name": "ignored", "const": "ignored",
    "empty": "ignored", "grade": "category", "visits": "count", "member": "binary",
    "score": "real", "year": "real", "rating": "category", "account": "ignored",
}  # fmt: skip


def people() -> pd.DataFrame:
    """Every kind of column, with holes in most."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": np.arange(1, N + 1),
            "height": rng.normal(170, 10, N),
            "income": np.exp(rng.normal(10, 1, N)),
            "kids": rng.poisson(1.5, N),
            "smoker": rng.random(N) < 0.3,
            "sex": rng.choice(["f", "m"], N),
            "city": rng.choice(["Bern", "Basel", "Genf"], N),
            "born": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 999, N), unit="D"),
            "name": [f"n{i}" for i in range(N)],
            "const": 1.0,
            "empty": np.nan,
            "grade": pd.Categorical(
                rng.choice(["lo", "mid"], N), categories=["mid", "lo", "hi"], ordered=True
            ),
            "visits": pd.array(rng.poisson(3, N), dtype="Int64"),
            "member": pd.array(rng.random(N) < 0.5, dtype="boolean"),
            "score": [str(round(float(v), 2) + 0.001) for v in rng.normal(0, 1, N)],
            "year": rng.integers(1990, 2020, N),
            "rating": rng.choice([1, 4, 5, 6], N, p=[0.1, 0.2, 0.3, 0.4]).astype(np.int8),
            "account": rng.integers(2**60, 2**61, N),
        }
    )
    frame.loc[3, ["height", "income"]] = np.nan
    frame.loc[4, ["sex", "city", "visits", "member", "grade", "score"]] = None
    return frame


def as_polars() -> pl.DataFrame:
    frame = people()
    columns = {
        name: [None if pd.isna(value) else value for value in frame[name].tolist()]
        for name in frame.columns
    }
    return pl.DataFrame(columns, strict=False).with_columns(
        pl.col("city").cast(pl.Categorical),
        pl.col("grade").cast(pl.Enum(["mid", "lo", "hi"])),
        pl.col("kids").cast(pl.UInt8),
        pl.col("height").cast(pl.Float32),
    )


def as_pyarrow():
    pytest.importorskip("pyarrow")
    return as_polars().to_arrow()


def as_arrays() -> dict:
    frame = people()
    hidden = frame["height"].isna().to_numpy()
    height = np.ma.array(frame["height"].fillna(1e9).to_numpy(), mask=hidden)
    return {name: frame[name].tolist() for name in frame.columns} | {"height": height}


FRAMES = [people, as_polars, as_pyarrow, as_arrays]


@pytest.mark.parametrize("make", FRAMES)
def test_each_column_gets_its_kind(make):
    table = Table.infer(make())
    # A list does not tell which categories there are besides those that occur.
    expected = KINDS | ({"grade": "binary"} if make is as_arrays else {})
    assert {column.name: column.kind for column in table.columns} == expected
    assert table.num_rows == N
    missing = {column.name: column.missing for column in table.columns if column.missing}
    assert missing == dict.fromkeys(
        ["height", "income", "sex", "city", "grade", "visits", "member", "score"], 1
    ) | {"empty": N}


@pytest.mark.parametrize("make", FRAMES)
def test_numbers_are_the_same_whatever_the_library(make):
    frame, reference = make(), people()
    table = Table.infer(frame)
    x = table.encode(frame)
    expected = {
        "height": reference["height"],
        "income": reference["income"],
        "kids": reference["kids"],
        "smoker": reference["smoker"],
        "sex": reference["sex"].map({"f": 0, "m": 1}),
        "city": reference["city"].map({"Basel": 0, "Bern": 1, "Genf": 2}),
        "grade": reference["grade"].astype(object).map({"mid": 0, "lo": 1, "hi": 2}),
        "visits": reference["visits"],
        "member": reference["member"],
        "score": reference["score"],
        "year": reference["year"],
        "rating": reference["rating"].map({1: 0, 4: 1, 5: 2, 6: 3}),
    }
    assert [column.name for column in table.modeled] == list(expected)
    for i, column in enumerate(table.modeled):
        numbers = [np.nan if pd.isna(value) else float(value) for value in expected[column.name]]
        if make is as_arrays and column.name == "grade":  # a list does not tell an order
            numbers = 1 - np.array(numbers)
        # polars and pyarrow hold the heights in float32.
        tolerance = 1e-7 if column.name == "height" else 0
        np.testing.assert_allclose(x[:, i], numbers, rtol=tolerance, err_msg=column.name)


def test_pandas_comes_back_as_it_was():
    frame = people()
    table = Table.infer(frame)
    x, names = table.encode(frame), [column.name for column in table.modeled]
    pd.testing.assert_frame_equal(table.decode(x), frame[names])
    other = frame[names[::-1]].set_index(pd.Index(range(100, 100 + N), name="row"))
    pd.testing.assert_frame_equal(table.decode(table.encode(other), like=other), other)


def test_polars_comes_back_as_it_was():
    frame = as_polars()
    table = Table.infer(frame)
    back = table.decode(table.encode(frame))
    expected = frame.select(back.columns).with_columns(pl.col("height"), pl.col("score"))
    assert back.schema == expected.schema and back.equals(expected)
    reversed_ = frame.select(back.columns[::-1])
    assert table.decode(table.encode(frame), like=reversed_).equals(reversed_)


def test_pyarrow_comes_back_as_it_was():
    table = as_pyarrow()
    schema = Table.infer(table)
    x = schema.encode(table)
    back = schema.decode(x, like=table)
    assert back.schema == table.select(back.column_names).schema
    assert back.to_pylist() == table.select(back.column_names).to_pylist()
    assert schema.decode(x).to_pylist() == back.to_pylist()


def test_another_library_is_decoded_into():
    frame = people()
    table = Table.infer(frame)
    x = table.encode(frame)
    polars = table.decode(x, like="polars")
    assert polars.schema["kids"] == pl.Int64 and polars.schema["grade"] == pl.Enum(
        ["mid", "lo", "hi"]
    )
    assert polars["city"].to_list()[:5] == [*frame["city"][:4], None]
    arrays = table.decode(x, like="numpy")
    assert arrays["kids"].dtype == np.int64 and arrays["smoker"].dtype == bool
    np.testing.assert_array_equal(arrays["height"], frame["height"])
    with pytest.raises(ValueError, match="like must be a DataFrame or one of"):
        table.decode(x, like="excel")


def test_samples_are_rounded_to_what_a_column_holds():
    table = Table.infer(people())
    names = [column.name for column in table.modeled]
    x = np.zeros((2, len(names)))
    x[:, names.index("kids")] = 1.6, np.nan
    x[:, names.index("city")] = 1.6, 0.4
    x[:, names.index("smoker")] = 0.7, np.nan
    x[:, names.index("year")] = 1999.7
    x[:, names.index("height")] = 170.25
    back = table.decode(x)
    assert back["kids"].tolist() == [2, pd.NA] and back["kids"].dtype == "Int64"
    assert back["city"].tolist() == ["Genf", "Basel"]
    assert back["smoker"].tolist() == [True, pd.NA] and back["smoker"].dtype == "boolean"
    assert back["year"].tolist() == [2000, 2000] and back["year"].dtype == np.int64
    assert back["height"].tolist() == [170.25, 170.25]


def test_shapes_and_classes_of_other_models_are_refused():
    table = Table.infer(people())
    with pytest.raises(ValueError, match=r"x must have shape \(n, 12\).*got shape \(3, 2\)"):
        table.decode(np.zeros((3, 2)))
    x = np.zeros((3, 12))
    x[2, 5] = 3.0
    with pytest.raises(ValueError, match="'city' must have classes 0 to 2, got 3 in row 2"):
        table.decode(x)


@pytest.mark.parametrize("name", ["iris", "wine", "diabetes", "breast_cancer"])
def test_real_tables_come_back(name):
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    table = Table.infer(frame)
    assert len(table.modeled) == frame.shape[1]
    kinds = {column.name: column.kind for column in table.columns}
    target = {"iris": "category", "wine": "category", "diabetes": "count"}.get(name, "binary")
    assert kinds["target"] == target
    pd.testing.assert_frame_equal(table.decode(table.encode(frame)), frame)


def test_numbered_columns_keep_their_numbers():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(30, 3)))
    table = Table.infer(frame, kinds={1: "ignored"})
    back = table.decode(table.encode(frame))
    assert list(back.columns) == [0, 2]
    pd.testing.assert_frame_equal(table.decode(table.encode(frame), like=frame), frame[[0, 2]])


def test_a_table_survives_json():
    table = Table.infer(people(), kinds={"city": "label", "sex": "condition"})
    again = Table.from_dict(json.loads(json.dumps(table.to_dict(), allow_nan=False)))
    assert again == table
    pd.testing.assert_frame_equal(
        again.decode(again.encode(people())), table.decode(table.encode(people()))
    )


@pytest.mark.parametrize(
    "damage", [{"version": 2}, {"columns": [{}]}, {"columns": 3}, {"columns": [{"name": "a"}]}]
)
def test_a_damaged_table_is_refused(damage):
    stored = Table.infer(people()).to_dict()
    with pytest.raises(ValueError, match=r"must be what Table\.to_dict wrote"):
        Table.from_dict(stored | damage)
    with pytest.raises(ValueError, match=r"must be what Table\.to_dict wrote"):
        Table.from_dict({})


CELLS = {
    "number": st.floats(allow_nan=True, allow_infinity=False, width=64),
    "whole": st.one_of(st.none(), st.integers(-(2**52), 2**52)),
    "text": st.one_of(st.none(), st.text("abcü, '\"\n", min_size=1, max_size=3)),
    "boolean": st.one_of(st.none(), st.booleans()),
}


@given(data=st.data(), content=st.sampled_from(sorted(CELLS)))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("library", [pd, pl])
def test_any_column_comes_back(library, data, content):
    """Whatever the cells: what is modeled is the same after encode and decode."""
    cells = data.draw(st.lists(CELLS[content], min_size=2, max_size=12))
    kind = {"text": "category", "boolean": "binary"}.get(content, "real")
    there = {value for value in cells if value is not None and value == value}
    if len(there) < 2:
        return
    if content == "text" and any(not text.strip() for text in there):
        return  # text of spaces alone
    values = (
        library.array(cells, dtype="Int64")
        if library is pd and content == "whole"
        else library.Series(cells)
    )
    frame = library.DataFrame({"a": values})
    table = Table.infer(frame, kinds={"a": kind})
    back = table.decode(table.encode(frame))
    expected = [None if v is None or v != v else v for v in cells]
    got = back["a"].to_list() if library is pl else back["a"].tolist()
    assert [None if v is None or v is pd.NA or v != v else v for v in got] == expected
    if library is pl:
        assert back.schema == frame.schema
