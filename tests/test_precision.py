"""Features that float32 does not resolve."""

import jax
import numpy as np
import pytest

from hvax.batch import Batch
from hvax.data.examples import Examples, as_data, with_origin
from hvax.precision import origin_of_rows, split_float64, unresolved

DRAW = np.random.default_rng(0)
UNIT = DRAW.normal(size=100)


@pytest.fixture(autouse=True)
def single_precision():
    with jax.enable_x64(False):
        yield


@pytest.mark.parametrize(
    ("column", "lost"),
    [
        (1.7e9 + 300 * UNIT, True),  # POSIX seconds, of minutes
        (1.7e18 + 86400e9 * UNIT, True),  # of nanoseconds
        (273.15 + 1e-4 * UNIT, True),
        (-1e6 + 0.1 * UNIT, True),
        (np.rint(1.7e9 + 300 * UNIT).astype(np.int64), True),
        (np.rint(1.7e9 + 300 * UNIT).astype(np.int32), True),
        (np.rint(3e9 + 300 * UNIT).astype(np.uint32), True),
        (UNIT, False),
        (1e30 * UNIT, False),  # large, and resolved all the same
        (np.exp(8 * UNIT), False),
        (300.0 + UNIT, False),
        (2020.0 + DRAW.integers(0, 4, 100), False),  # exact, however near to each other
        ((1.7e9 + 300 * UNIT).astype(np.float32), False),  # what float32 has lost is gone
        (np.full(100, 0.1), False),  # does not vary
        (0.1 + 1e-17 * UNIT, False),
        (0.3 + 1e-16 * (UNIT > 0), False),  # nor does this, but for float64's own rounding
    ],
)
def test_what_float32_does_not_tell_apart_is_known(column, lost):
    x = np.stack([UNIT.astype(column.dtype), column], axis=1)
    assert unresolved(x).tolist() == [False, lost]
    with jax.enable_x64(True):
        assert not unresolved(x).any()


def test_of_a_few_rows_nothing_is_said():
    assert not unresolved(273.15 + 1e-4 * UNIT[:7, None]).any()


def test_an_origin_is_a_sum_of_two_float32_numbers_near_the_mean():
    x = np.stack([UNIT, 1.7e9 + 300 * UNIT, 273.15 + 1e-9 * UNIT], axis=1)
    origin = origin_of_rows(x)
    assert origin[0] == 0
    np.testing.assert_array_equal(split_float64(origin).astype(np.float64).sum(axis=0), origin)
    np.testing.assert_allclose((x - origin).mean(axis=0)[1:], 0, atol=1e-5)
    assert not unresolved(x - origin).any()
    assert origin_of_rows(x[:, :1]) is None


def test_the_origin_is_taken_off_before_float32_rounds():
    x = 1.7e9 + np.arange(12.0).reshape(6, 2)
    part = as_data(x, "data", check=lambda x: None, origin=np.array([1.7e9, 1.7e9])).x
    np.testing.assert_array_equal(part.seen(slice(None)), np.arange(12.0).reshape(6, 2))
    np.testing.assert_array_equal(part[:], x)
    # Stored in other units: a model divides what it is given by the scale.
    of_ints = Examples((10 * x).astype(np.int64), scale=10.0)
    part = with_origin(Batch(of_ints), np.array([1.7e9, 1.7e9])).x
    np.testing.assert_array_equal(part.seen(slice(1, 3)), np.arange(12.0).reshape(6, 2)[1:3])
    np.testing.assert_array_equal(part.rows(slice(1, 2)), [[20.0, 30.0]])
    np.testing.assert_array_equal(part.spaced(2), [[0.0, 1.0], [10.0, 11.0]])
    assert with_origin(Batch(of_ints), np.zeros(3)).x.origin is None


def test_64_bit_nanoseconds_are_taken_less_the_origin():
    """As they stand they do not fit into 32 bits, and are refused."""
    x = (1_700_000_000 * 10**9 + np.arange(20) * 10**9).reshape(10, 2)
    with pytest.raises(ValueError, match="32-bit mode"):
        as_data(x, "data", check=lambda x: None)
    part = as_data(x, "data", check=lambda x: None, origin=np.full(2, 1.7e18)).x
    np.testing.assert_allclose(part.seen(slice(None)), 1e9 * np.arange(20.0).reshape(10, 2))
