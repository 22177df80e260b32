"""The bench's own parts: files as they are read again, and what a record is judged by."""

import copy

import numpy as np
import pytest
from tests.first_try.drawn import at_random
from tests.first_try.files import read_columns, write_table
from tests.first_try.sets import SETS
from tests.first_try.table import markdown
from tests.first_try.verdict import judged, standard_error

from hvax.data import load_source

SCORES = {"elbo": -3.0, "elbo_se": 0.1, "nll": 2.9, "skipped": 0}
RECORD = {
    "name": "one",
    "messy": False,
    "shape": [100, 4],
    "program": {
        "exit": 0,
        "seconds": 12.0,
        "warnings": [],
        "said": ["hvax: a line"],
        "likelihood": "LearnedGaussian",
        "vae": SCORES | {"elbo": -3.5},
        "hvae": SCORES,
    },
    "library": {"exit": 0, "seconds": 9.0, "warnings": [], "likelihood": "LearnedGaussian"}
    | SCORES,
    "references": {
        "LearnedGaussian": {
            "independent": {"mean": -5.0, "per_point": [-5.0] * 30},
            "mixture": {"mean": -2.5, "per_point": [-2.5] * 30},
        }
    },
}


def record(**changes):
    """The record, with `program__exit=1` for record["program"]["exit"] = 1."""
    changed = copy.deepcopy(RECORD)
    for path, value in changes.items():
        *parents, last = path.split("__")
        inside = changed
        for name in parents:
            inside = inside[name]
        inside[last] = value
    return changed


def test_a_record_in_order():
    """Above independent features; below the mixture is a remark."""
    found = judged(RECORD)
    assert found.failures == []
    assert found.remarks == ["program: 0.50 below mixture", "fit: 0.50 below mixture"]


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"program__exit": 1}, "program: exit 1: a line"),
        ({"program__exit": None}, "program: not at its end after 12 s"),
        ({"library__seconds": 75.0}, "fit: 75 s"),
        ({"program__hvae__skipped": 6}, "program: 6 updates skipped"),
        ({"program__hvae__elbo": float("nan")}, "program: ELBO nan"),
        ({"library__elbo": -5.25}, "fit: 0.25 below independent"),
        (
            {"program__independent": -2.5},
            "program: 0.50 below independent features as it transforms them",
        ),
        ({"program__hvae": None}, "program: the flow has no result"),
        ({"program__hvae": None, "program__vae": None}, "program: no result"),
        ({"program__likelihood": "Own"}, "program: no reference for Own"),
        ({"messy": True, "program__exit": 1}, "program: exit 1: a line"),
    ],
)
def test_what_is_not_in_order(changes, failure):
    assert judged(record(**changes)).failures == [failure]


def test_a_messy_file_may_be_refused():
    found = judged({"name": "one", "messy": True, "program": {"exit": 2, "said": ["hvax: no"]}})
    assert found.failures == [] and found.remarks == ["refused before training: no"]


def test_few_test_rows_allow_two_standard_errors():
    """Of the difference row by row: 0.1 below is within the errors of these, 1 below is not."""
    points = np.array([-4.0, -5.0, -6.0, -5.0])
    reference = {"independent": {"mean": -5.0, "per_point": points.tolist()}}
    for below, failures in ((0.1, 0), (1.0, 1)):
        each = points - below + np.array([0.2, -0.2, 0.2, -0.2])
        changed = record(
            library__elbo=-5.0 - below,
            library__elbo_per_point=each.tolist(),
            references__LearnedGaussian=reference,
        )
        assert len(judged(changed).failures) == failures
    assert standard_error([1.0, 3.0], [0.0, 0.0]) == 1.0 and np.isinf(standard_error([1.0], [0.0]))


def test_each_is_compared_on_the_columns_that_it_took():
    """The program leaves out columns that do not vary; what a user of Python hands in has them."""
    own = {"LearnedGaussian": {"independent": {"mean": 1.0, "per_point": [1.0] * 30}}}
    found = judged(record(references_of_fit=own))
    assert found.failures == ["fit: 4.00 below independent"]


def test_level_with_independent_features():
    """0.01 nats a feature below them is a remark, more is a failure."""
    for below, failures in ((0.03, 0), (0.05, 1)):
        assert len(judged(record(library__elbo=-5.0 - below)).failures) == failures


def test_the_table():
    """A line for each record; failures in bold."""
    lines = markdown([RECORD, record(program__exit=1)]).splitlines()
    assert lines[2].startswith("| one | 100 x 4 | Gaussian | -5.00 | – | -2.50 | -3.50 (-2.90) |")
    assert lines[3].count("**program: exit 1: a line**") == 1 and len(lines) == 4


def test_a_table_is_read_as_it_was_written(tmp_path):
    x = np.array([[1.5, 2.0], [3e-9, -4e9], [5.0, 6.0]])
    write_table(tmp_path / "x.csv", ["a (m)", "b"], x, ("kind", ["p", "q", "p"]))
    source = load_source(tmp_path / "x.csv", labels="kind")
    np.testing.assert_array_equal(source.x, x)
    assert source.labels.tolist() == ["p", "q", "p"]
    with pytest.raises(ValueError, match="must be"):
        write_table(tmp_path / "y.csv", ["a"], x)


def test_rows_with_missing_cells_are_left_out():
    names, rows = read_columns("a,b,c\n1,2,x\nNA,3,x\n4,,x\n5,6,x\n", ["b", "a"])
    assert names == ["b", "a"] and rows == [["2", "1"], ["6", "5"]]


def test_random_tables_are_those_of_their_seed(tmp_path):
    for name in ("one.csv", "two.csv"):
        at_random(seed=3, path=tmp_path / name)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    x = load_source(tmp_path / "one.csv").x
    assert len(x) >= 40 and 2 <= x.shape[1] < 25 and np.all(x.std(0) > 0)


def test_every_set_has_its_own_file():
    assert len(SETS) == len({data.file for data in SETS.values()}) >= 55
