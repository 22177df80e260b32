"""The order of training batches, and padded batches for evaluation."""

import operator
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PaddedBatch(NamedTuple):
    """Indices of one batch. The last batch is padded with index 0, where the mask is False."""

    indices: NDArray[np.int64]  # (batch_size,)
    mask: NDArray[np.bool_]  # (batch_size,)


def random_order(n: int, *seed: int) -> NDArray[np.int64]:
    """A random permutation of 0 ... n - 1 that is the same under every version of NumPy.

    Raises `ValueError` for a negative seed and `TypeError` for one that is no integer.
    """
    # NumPy guarantees the raw stream of a bit generator, but not `Generator.permutation` (NEP 19).
    # If a split changed with an upgrade, test examples would leak into training.
    if any(operator.index(part) < 0 for part in seed):
        raise ValueError(f"seed must be >= 0, got {seed[0]}.")
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")


def epoch_batches(n: int, batch_size: int, *, seed: int, epoch: int) -> NDArray[np.int32]:
    """The shuffled batches of an epoch, (n // batch_size, batch_size); the remainder is dropped."""
    steps = n // batch_size
    order = random_order(n, seed, epoch)[: steps * batch_size]
    return order.reshape(steps, batch_size).astype(np.int32)


def padded_batches(n: int, batch_size: int) -> Iterator[PaddedBatch]:
    """All indices once, in order, in batches of one size, the last one padded."""
    for start in range(0, n, batch_size):
        index = np.arange(start, start + batch_size)
        mask = index < n
        yield PaddedBatch(np.where(mask, index, 0), mask)


_SHARED = 64  # rows; fewer are padded to so many


def shared_size(n: int) -> int:
    """n rounded up to one of few sizes, by an eighth at most (from 64 on).

    Arrays padded to it share compiled programs with others of about their length, such as the folds
    of a cross-validation.
    """
    step = max(_SHARED, 1 << max(0, n.bit_length() - 4))
    return -(-n // step) * step
