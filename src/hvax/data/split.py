"""Which examples train, which validate, which test: a function of the source and a seed alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvax.data.batches import random_order
from hvax.data.source import Source

FRACTIONS = (0.8, 0.1, 0.1)


@dataclass(frozen=True, eq=False)
class Split:
    """Indices into a source's examples, int64: disjoint parts that cover it together.

    Each part is ascending, in the order of storage, so that it reads a memory-mapped array front to
    back and compares at a glance; the order of training is drawn later, epoch by epoch.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split(source: Source, *, seed: int = 0, fractions: Sequence[float] = FRACTIONS) -> Split:
    """The source's own parts where it fixes them, and parts drawn by `seed` for the rest.

    A source that fixes its test part (mnist, fashion-mnist) has `source.num_validation` of the
    other examples drawn for validation. One that fixes nothing is dealt out in `fractions`, for
    train, validation and test: the last two are rounded to whole examples, at least one where the
    fraction is positive, and train has the remainder.

    Raises `ValueError` when `fractions` are not three non-negative numbers that sum to 1 with a
    positive first, when there are too few examples for them, when they are given for a source that
    fixes its parts, and when `seed` is negative; `TypeError` when `seed` is no integer.
    """
    pool = source.pool
    if not source.fixed:
        num_validation, num_test = _sizes(source.name, len(pool), fractions)
    elif tuple(fractions) == FRACTIONS:
        num_validation, num_test = source.num_validation, 0
    else:
        raise ValueError(
            f"expected no fractions for {source.name}, which fixes its own parts"
            f" ({', '.join(source.fixed)}), got {tuple(fractions)}; leave them out"
        )
    shuffled = pool[random_order(len(pool), seed)]
    validation, test, train = np.split(shuffled, [num_validation, num_validation + num_test])
    parts = {"train": train, "validation": validation, "test": test, **source.fixed}
    return Split(**{part: np.sort(indices) for part, indices in parts.items()})


def _sizes(name: str, n: int, fractions: Sequence[float]) -> tuple[int, int]:
    """How many of n examples validate and test."""
    valid = len(fractions) == 3 and min(fractions) >= 0 and fractions[0] > 0
    if not valid or not abs(sum(fractions) - 1) < 1e-6:
        raise ValueError(
            "expected fractions to be three numbers for train, validation and test, none negative,"
            f" the first positive, that sum to 1, got {tuple(fractions)}; for example {FRACTIONS}"
        )
    num_validation, num_test = (max(1, round(n * part)) if part else 0 for part in fractions[1:])
    if num_validation + num_test >= n:
        raise ValueError(
            f"expected enough examples of {name} for at least one in each part of"
            f" {tuple(fractions)}, got {n}; give more examples or other fractions"
        )
    return num_validation, num_test
