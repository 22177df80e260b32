"""A table from a .csv or .parquet file is the table of its DataFrame."""

import bz2
import gzip
import lzma

import numpy as np
import pandas as pd
import pytest

from hvax import Table

N = 60
RNG = np.random.default_rng(2)
FRAME = pd.DataFrame(
    {
        "height": RNG.normal(170, 10, N),
        "kids": RNG.poisson(2, N),
        "smoker": RNG.random(N) < 0.3,
        "city": RNG.choice(["Bern, old town", 'the "new" one', "Genf; lake"], N),
        "code": [f"{i % 9:03d}" for i in range(N)],
        "day": ["2020-01-02"] * (N // 2) + ["2021-03-04"] * (N // 4) + ["2022-01-01"] * (N // 4),
    }
)
FRAME.loc[3, "height"] = np.nan
FRAME.loc[[4, 5], "city"] = None
KINDS = {
    "height": "real", "kids": "count", "smoker": "binary", "city": "category", "code": "category",
    "day": "ignored",
}  # fmt: skip


def kinds(table):
    return {column.name: column.kind for column in table.columns}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "t.csv"),
        ({"sep": ";", "decimal": ","}, "t.csv"),
        ({"sep": "\t"}, "t.tsv"),
        ({"quoting": 1}, "t.txt"),
        ({"na_rep": "NA"}, "t.csv"),
        ({}, "t.csv.gz"),
        ({}, "t.csv.bz2"),
        ({}, "t.csv.xz"),
    ],
)
def test_a_file_is_read_whatever_its_form(options, name, tmp_path):
    path = tmp_path / name
    FRAME.to_csv(path, index=False, **options)
    table = Table.infer(path)
    assert kinds(table) == KINDS
    x = table.encode(path)
    np.testing.assert_allclose(x, Table.infer(FRAME).encode(FRAME), rtol=1e-15)
    back = table.decode(x)
    modeled = [column.name for column in table.modeled]
    pd.testing.assert_frame_equal(back, FRAME[modeled], rtol=1e-15)


def test_parquet_keeps_types(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.parquet"
    FRAME.assign(city=FRAME["city"].astype("category")).to_parquet(path)
    table = Table.infer(path)
    assert kinds(table) == KINDS and table.library == "pyarrow"
    np.testing.assert_array_equal(table.encode(path), Table.infer(FRAME).encode(FRAME))


def test_row_numbers_of_pandas_are_ignored(tmp_path):
    FRAME.to_csv(tmp_path / "t.csv")
    table = Table.infer(tmp_path / "t.csv")
    assert kinds(table) == {"Unnamed: 0": "ignored"} | KINDS
    assert table.columns[0].note == "the row number"


def test_a_file_without_a_header_numbers_its_columns(tmp_path):
    path = tmp_path / "t.csv"
    FRAME[["height", "kids"]].dropna().to_csv(path, index=False, header=False)
    table = Table.infer(path)
    assert kinds(table) == {"column 0": "real", "column 1": "count"}
    assert table.num_rows == N - 1
    assert Table.infer(path, header="yes").num_rows == N - 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty file"),
        ("a,b\n", "at least one row, got only the names of columns"),
        ("a,a\n1,2\n3,4\n", "line 1: the column names must differ, got 'a' more than once"),
        ("a,b\n1,2\n3\n", "line 3, must have 2 cells, as the first line has, got 1"),
        ("a;b\n1,5;2\n2.5;3\n", "must use one decimal mark, got '1,5' and '2.5'"),
        ('a,b\n"1,2\n', "must be separated text in UTF-8, got something else after line"),
    ],
)
def test_a_damaged_file_is_refused(text, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Table.infer(path)


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress),
                                                   ("xz", lzma.compress)])  # fmt: skip
def test_a_damaged_compressed_file_is_refused(suffix, compress, tmp_path):
    path = tmp_path / f"t.csv.{suffix}"
    whole = compress(FRAME.to_csv(index=False).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="must be separated text in UTF-8, got something else"):
        Table.infer(path)
    path.write_bytes(b"height,kids\n1,2\n")
    with pytest.raises(ValueError, match="must be separated text in UTF-8, got something else"):
        Table.infer(path)


def test_no_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"t\.csv"):
        Table.infer(tmp_path / "t.csv")
