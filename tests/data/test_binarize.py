"""Binarizing once: bits, the same in every run, with the gray level as their mean."""

import numpy as np
import pytest

from hvax.data.binarize import binarize_once
from hvax.data.examples import Examples


def gray(n: int, level: int) -> Examples:
    return Examples(np.full((n, 4, 5), level, np.uint8), scale=10.0)


@pytest.mark.parametrize("level", [1, 3, 5, 9])
def test_bits_are_ones_as_often_as_the_gray_level(level):
    """60,000 bits: SE below 0.0021. Thresholding at 1/2 is off by 0.1 and more; the complement
    (uniform > gray) by 0.4 at level 3."""
    bits = binarize_once(gray(3000, level), "test")
    mean, p = bits.stored.mean(), level / 10
    assert abs(mean - p) < 4.5 * np.sqrt(p * (1 - p) / bits.stored.size)
    # Every pixel of its own: the mean image spreads as independent bits do.
    z = (bits.stored.mean(0) - p) / np.sqrt(p * (1 - p) / 3000)
    assert np.all(np.abs(z) < 4.5) and z.std() > 0.5


def test_black_stays_black_and_white_stays_white():
    assert binarize_once(gray(50, 0), "test").stored.max() == 0
    assert binarize_once(gray(50, 10), "test").stored.min() == 1


def test_bits_are_examples_of_the_same_shape():
    bits = binarize_once(gray(7, 5), "train")
    assert bits.stored.dtype == np.uint8 and bits.stored.shape == (7, 4, 5)
    assert bits.index is None and bits.scale == 1 and set(np.unique(bits.stored)) == {0, 1}


def test_bits_are_fixed_for_a_part_and_differ_between_parts():
    """The packed bits are written down: a change would make old bounds incomparable."""
    parts = {part: binarize_once(gray(3, 5), part).stored for part in ("test", "validation")}
    assert not np.array_equal(parts["test"], parts["validation"])
    np.testing.assert_array_equal(parts["test"], binarize_once(gray(3, 5), "test").stored)
    assert np.packbits(parts["test"]).tobytes().hex() == "34f04ec88e039080"


def test_bits_are_drawn_for_the_rows_of_the_part():
    """Row i of the part, not of the array that it is chosen from, and over the pieces of 1024."""
    stored = np.random.default_rng(0).integers(0, 11, (1500, 3)).astype(np.uint8)
    index = np.arange(1499, -1, -1)
    chosen = binarize_once(Examples(stored, index, 10.0), "test")
    direct = binarize_once(Examples(stored[index], scale=10.0), "test")
    np.testing.assert_array_equal(chosen.stored, direct.stored)
    assert not np.array_equal(direct.stored[:476], direct.stored[1024:])
