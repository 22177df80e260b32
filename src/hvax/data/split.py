"""Splits into training, validation and test data: functions of the source and a seed alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvax.data.batches import random_order
from hvax.data.source import Source

FRACTIONS = (0.8, 0.1, 0.1)


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of indices (int64) that together cover a source's examples.

    Each is ascending, so that a memory-mapped array is read front to back. Training shuffles anew
    in each epoch.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split(source: Source, *, seed: int = 0, fractions: Sequence[float] = FRACTIONS) -> Split:
    """Split a source: its own parts where it fixes them, random parts for the rest.

    If the source fixes its test part (mnist, fashion-mnist), `source.num_validation` of the other
    examples are drawn for validation. If it fixes nothing, `fractions` are those of training,
    validation and test: the last two are rounded to whole examples, at least one if the fraction is
    positive, and training gets the rest.

    Raises `ValueError` if `fractions` are not three non-negative numbers that sum to 1 with a
    positive first, if there are too few examples, if they are given for a source that fixes its
    parts, and for a negative `seed`; `TypeError` if `seed` is no integer.
    """
    pool, fractions = source.pool, _checked(fractions)
    if not source.fixed:
        num_validation, num_test = _sizes(source.name, len(pool), fractions)
    elif fractions == FRACTIONS:
        num_validation, num_test = source.num_validation, 0
    else:
        raise ValueError(
            f"fractions must be the default for {source.name}, which fixes its own parts"
            f" ({', '.join(source.fixed)}), got {fractions}. Leave them out."
        )
    shuffled = pool[random_order(len(pool), seed)]
    validation, test, train = np.split(shuffled, [num_validation, num_validation + num_test])
    parts = {"train": train, "validation": validation, "test": test, **source.fixed}
    return Split(**{part: np.sort(indices) for part, indices in parts.items()})


def _checked(fractions: Sequence[float]) -> tuple[float, ...]:
    try:
        parts = tuple(float(part) for part in fractions)
    except (TypeError, ValueError):
        parts = ()
    valid = len(parts) == 3 and min(parts) >= 0 and parts[0] > 0
    if not valid or not abs(sum(parts) - 1) < 1e-6:
        raise ValueError(
            "fractions must be three numbers for train, validation and test, none negative,"
            f" the first positive, that sum to 1, got {fractions!r}. Use {FRACTIONS}, for example."
        )
    return parts


def _sizes(name: str, n: int, fractions: tuple[float, ...]) -> tuple[int, int]:
    """The numbers of validation and test examples among n."""
    num_validation, num_test = (max(1, round(n * part)) if part else 0 for part in fractions[1:])
    if num_validation + num_test >= n:
        raise ValueError(
            f"{name} must have enough examples for at least one in each part of"
            f" {fractions}, got {n}. Give more examples or other fractions."
        )
    return num_validation, num_test
