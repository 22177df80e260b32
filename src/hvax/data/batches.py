"""The order of training and evaluation's padded batches: functions of seed and epoch alone."""

import operator
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PaddedBatch(NamedTuple):
    """One batch by index; the last batch is padded with index 0, and the mask is False there."""

    indices: NDArray[np.int64]  # (batch_size,)
    mask: NDArray[np.bool_]  # (batch_size,)


def random_order(n: int, *seed: int) -> NDArray[np.int64]:
    """A random order of n things, the same under every version of NumPy.

    NumPy keeps a bit generator's raw stream for good, but not what `Generator.permutation` makes
    of it (NEP 19), and a test part that moves with an upgrade would leak into training.
    """
    if any(operator.index(part) < 0 for part in seed):
        raise ValueError(f"expected a seed of at least 0, got {seed[0]}; pass another")
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")


def epoch_batches(n: int, batch_size: int, *, seed: int, epoch: int) -> NDArray[np.int32]:
    """The batches of one epoch, (n // batch_size, batch_size): shuffled, the rest dropped."""
    steps = n // batch_size
    order = random_order(n, seed, epoch)[: steps * batch_size]
    return order.reshape(steps, batch_size).astype(np.int32)


def padded_batches(n: int, batch_size: int) -> Iterator[PaddedBatch]:
    """Every index once, in order, in batches of one size."""
    for start in range(0, n, batch_size):
        index = np.arange(start, start + batch_size)
        mask = index < n
        yield PaddedBatch(np.where(mask, index, 0), mask)
