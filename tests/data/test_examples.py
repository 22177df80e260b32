"""Examples: lazy, scaled when read, and checked at the door."""

import numpy as np
import pytest

from hvax.batch import Batch
from hvax.data.examples import Examples, as_data, as_examples
from hvax.models.likelihood import Bernoulli, LearnedGaussian

STORED = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)


def accept(x):
    """A likelihood that takes everything."""


def test_all_rows_as_stored():
    examples = Examples(STORED)
    assert len(examples) == 6 and examples.x_shape == (2, 2) and examples.nbytes == 24
    np.testing.assert_array_equal(examples[:], STORED)
    assert examples[:].dtype == np.uint8


def test_an_index_chooses_and_orders_rows():
    examples = Examples(STORED, np.array([4, 0, 2]))
    assert len(examples) == 3 and examples.nbytes == 12
    np.testing.assert_array_equal(examples[:], STORED[[4, 0, 2]])
    np.testing.assert_array_equal(examples[1:], STORED[[0, 2]])
    np.testing.assert_array_equal(examples.rows(np.array([2, 0])), STORED[[2, 4]])


def test_rows_are_scaled_when_a_model_sees_them():
    examples = Examples(STORED, np.array([5, 1]), scale=10.0)
    assert examples.rows(slice(None)).dtype == np.uint8
    assert examples[:].dtype == np.float32
    np.testing.assert_array_equal(examples[:], (STORED[[5, 1]] / 10.0).astype(np.float32))
    np.testing.assert_array_equal(examples.stored, STORED)


def test_a_memory_mapped_array_is_read_only_where_asked(tmp_path):
    np.save(tmp_path / "x.npy", STORED)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    examples = as_examples(stored)
    assert examples.stored is stored and isinstance(examples.stored, np.memmap)
    assert not isinstance(examples[np.array([1, 3])], np.memmap)
    np.testing.assert_array_equal(examples[np.array([1, 3])], STORED[[1, 3]])


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_scale_is_finite_and_positive(scale):
    with pytest.raises(ValueError, match=r"scale must be finite and > 0"):
        Examples(STORED, scale=scale)


def test_examples_pass_and_arrays_and_lists_are_wrapped():
    examples = Examples(STORED)
    assert as_examples(examples) is examples
    assert as_examples(STORED).stored is STORED
    np.testing.assert_array_equal(as_examples([[1.0, 2.0]]).stored, [[1.0, 2.0]])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (np.array([[np.inf]]), ValueError, "data must be finite, got inf"),
        (np.zeros((0, 3)), ValueError, "at least one example"),
        (np.zeros((3, 0)), ValueError, "no empty axis"),
        (np.array(1.0), ValueError, r"\(n, \.\.\.\)"),
        (np.array(["a"]), TypeError, "booleans, integers or floats"),
        (np.array([1j]), TypeError, "complex128"),
        (np.array([None]), TypeError, "object"),
        (None, TypeError, "object"),
    ],
)
def test_what_is_no_array_of_examples_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        as_examples(data)


def test_a_pair_is_x_and_its_target():
    data = as_data(STORED, "data", check=accept)
    assert data.x.stored is STORED and data.parts() == [data.x] and data.scored is data.x
    data = as_data((STORED, Examples(STORED[:, 0])), "data", check=accept)
    assert data.x.x_shape == (2, 2) and data.scored.x_shape == (2,)


def test_a_batch_has_a_condition_and_a_mask():
    given = Batch(STORED, condition=np.arange(6), mask=STORED > 3)
    data = as_data(given, "data", check=lambda x, mask: accept(x))
    assert len(data.condition) == len(data.mask) == 6 and data.target is None
    with pytest.raises(ValueError, match=r"mask of data must be booleans of the shape of x.*uint8"):
        as_data(given._replace(mask=STORED), "data", check=accept)
    with pytest.raises(ValueError, match=r"booleans.*bool of shape \(\) for examples"):
        as_data(given._replace(mask=np.ones(6, bool)), "data", check=accept)
    with pytest.raises(ValueError, match=r"must have missing values in x alone, got NaN in its co"):
        as_data(given._replace(condition=np.full(6, np.nan)), "data", check=accept)
    x = np.where(STORED[2, 0] == STORED, np.nan, STORED)
    with pytest.raises(ValueError, match=r"wherever its mask is True, got NaN at index \(2, 0"):
        as_data(Batch(x, mask=STORED >= 0), "data", check=accept)
    with pytest.raises(ValueError, match=r"no missing values in x if it has a target"):
        as_data((x, STORED), "data", check=accept)
    with pytest.raises(ValueError, match="a condition for each example, got 5 for 6"):
        as_data(given._replace(condition=np.arange(5)), "data", check=accept)


def test_a_pair_has_two_parts_of_one_length():
    with pytest.raises(ValueError, match=r"pair \(x, target\) or a Batch, got 3 parts"):
        as_data((STORED, STORED, STORED), "data", check=accept)
    with pytest.raises(ValueError, match="a target for each example, got 2 for 6"):
        as_data((STORED, STORED[:2]), "data", check=accept)


def test_what_is_scored_is_checked_as_the_model_sees_it():
    check = Bernoulli().check
    with pytest.raises(ValueError, match=r"data of a Bernoulli must be in \[0, 1\]"):
        as_data(STORED, "data", check=check)
    as_data(Examples(STORED, scale=23.0), "data", check=check)  # scaled it lies in [0, 1]
    as_data(Examples(STORED, np.array([0]), scale=3.0), "data", check=check)  # this row alone
    as_data((STORED, Examples(STORED, scale=23.0)), "data", check=check)  # x is not scored


def test_all_rows_are_checked():
    """The rows are checked piece by piece, 4096 at a time."""
    x = np.zeros((5000, 1), np.float32)
    x[4999] = np.nan
    with pytest.raises(ValueError, match="data of a Gaussian must be finite"):
        as_data(Examples(x), "data", check=LearnedGaussian().check)


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="at least one example"):
        as_data(Examples(STORED[:0]), "data", check=accept)
