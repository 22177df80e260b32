"""New files are read as the run's own was: its columns by their names, whatever else there is."""

from pathlib import Path

import numpy as np
import pytest

from hvax.commands.compare import _write
from hvax.commands.directory import open_run
from hvax.commands.inputs import run_data
from hvax.config import InsideFile, OwnData
from runs_for_tests import FEW, SMALL, load_npz, untrained

X = np.random.default_rng(0).normal(size=(40, 3)).round(3)
NAMES = ("a", "b", "c")


def write(name, header, *columns):
    lines = [] if header is None else [",".join(header)]
    lines += [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    Path(name).write_text("\n".join(lines) + "\n")


@pytest.fixture
def table_run(here):
    write("old.csv", (*NAMES, "kind"), *X.T, ["lark", "wren"] * 20)
    untrained(f"old.csv --labels kind --missing drop {SMALL}")
    return here


def read(name, **inside):
    return run_data(open_run(Path("other")), name, InsideFile(**inside), OwnData())


def test_columns_are_found_by_name_and_told_where_they_are_not(table_run, refused, capsys):
    """A header with other names was read in the order of its columns."""
    write("other.csv", ("c", "b", "d"), *X.T)
    refused("encode other other.csv --no-progress", r"one column 'a', got 0 among c, b, d")
    write("more.csv", ("x", "c", "a", "b"), np.arange(40), *X.T)
    np.testing.assert_array_equal(read("more.csv").examples[:], X[:, [1, 2, 0]])
    assert capsys.readouterr().out == ""


def test_columns_of_other_names_are_named(table_run, refused):
    write("other.csv", ("c", "b", "d"), *X.T)
    found = read("other.csv", columns=("d", "c", "1"))
    np.testing.assert_array_equal(found.examples[:], X[:, [2, 0, 1]])
    refused("encode other other.csv --columns c b --no-progress", r"shape \(3,\), other.csv has")
    refused("encode other other.csv --columns c b e --no-progress", "one column 'e'")
    refused("encode other --columns a b c --no-progress", "--columns is for other data")


def test_a_table_without_names_is_taken_by_place_and_says_so(table_run, capsys):
    write("bare.csv", None, *X.T)
    np.testing.assert_array_equal(read("bare.csv").examples[:], X)
    note = "note: columns of bare.csv are taken by their places, for the run's a, b, c\n"
    assert capsys.readouterr().out == note


def test_years_for_names_are_no_places(here, refused):
    """With 2 gone, column number 2 was taken for it."""
    write("old.csv", ("1", "2", "x"), *X.T)
    untrained(f"old.csv --columns 1 2 x --header yes {SMALL}")
    write("new.csv", ("y", "x", "1", "z"), *X.T, X[:, 0])
    command = "encode other new.csv --header yes --no-progress"
    refused(command, "columns of the run, but it has no 2. Name the")


def test_a_header_of_numbers_is_known_again(here, capsys):
    """As the run's own had one: guessed, it would be an example. A file without is none."""
    names = ("1.5", "7", "2.25")
    write("old.csv", names, *X.T)
    untrained(f"old.csv --header yes {SMALL}")
    write("new.csv", names[::-1], *X[:, ::-1].T)
    np.testing.assert_array_equal(read("new.csv").examples[:], X)
    assert capsys.readouterr().out == ""
    write("bare.csv", None, *X.T)
    np.testing.assert_array_equal(read("bare.csv").examples[:], X)


@pytest.mark.parametrize("labels", [["lark"] * 40, [""] * 40, None])
def test_labels_that_are_there_empty_or_missing(labels, table_run):
    columns = (*X.T,) if labels is None else (*X.T, labels)
    write("new.csv", (*NAMES, "kind")[: len(columns)], *columns)
    found = read("new.csv")
    np.testing.assert_array_equal(found.examples[:], X)
    assert (found.labels is not None) == (labels is not None and labels[0] == "lark")


# Rows that are left out


def with_holes(name, lost):
    cells = X.astype(str)
    cells[lost, 1] = "NA"
    write(name, NAMES, *cells.T)
    return np.setdiff1d(np.arange(40), lost)


def test_outputs_hold_the_rows_of_the_file(table_run, ran):
    kept = with_holes("new.csv", [0, 7, 8, 39])
    out = ran("encode other new.csv --no-progress --out z.npz")
    assert out.startswith("note: left out 4 of 40 rows with missing cells: b (4)\n")
    np.testing.assert_array_equal(load_npz("z.npz")["row"], kept)
    ran("reconstruct other new.csv --no-progress --out back.npz")
    back = load_npz("back.npz")
    np.testing.assert_array_equal(back["row"], kept)
    ran("reconstruct other new.csv --no-progress --out back.npy")
    np.testing.assert_array_equal(back["x"], np.load("back.npy"))
    ran(f"evaluate other new.csv {FEW} --per-point points.npz")
    ran(f"evaluate other new.csv {FEW} --per-point points.npy")
    points = load_npz("points.npz")
    chosen = np.linspace(0, 35, 10).round().astype(int)
    np.testing.assert_array_equal(points["row"], kept[chosen])
    np.testing.assert_array_equal(points["log_p"], np.load("points.npy")[:, 1])


def test_rows_of_the_test_part_are_those_of_its_file(here):
    kept = with_holes("old.csv", [3, 4, 20])
    untrained(f"old.csv {SMALL}")
    data = read(None)
    assert set(data.rows) <= set(kept)
    np.testing.assert_array_equal(data.examples[:], X[data.rows])


def test_compare_writes_the_rows(table_run, ran):
    kept = with_holes("new.csv", [0, 1])
    untrained(f"old.csv --labels kind --missing drop {SMALL} --seed 1", folder=Path("twin"))
    ran(f"compare other twin --data new.csv {FEW} --per-point points.csv")
    lines = [line.split(",") for line in Path("points.csv").read_text().splitlines()]
    assert lines[0][:3] == ["run", "point", "row"]
    assert [int(row) for _, _, row, *_ in lines[1:11]] == [
        kept[int(point)] for _, point, *_ in lines[1:11]
    ]


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path):
    """Of a run whose folder's name is not UTF-8."""
    _write(tmp_path / "runs.csv", [["run"], ["run\udcff"]])
    assert (tmp_path / "runs.csv").read_text() == "run\nrun\\udcff\n"
