"""Data for the compiled loop: all on the device if they fit, else copied chunk by chunk."""

from abc import ABC, abstractmethod

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.data.batches import shared_size
from hvax.devices import place, rows_of
from hvax.training.compiled_steps import Chunk

RESIDENT_BYTES = 2**31
"""Larger data stay on the host and are streamed."""

_STREAMED_BYTES = 2**26  # rows of one chunk on the device, at most


class AbstractFeed(ABC):
    """Supplies the compiled loop with chunks of rows."""

    @abstractmethod
    def chunk(self, batches: NDArray[np.int32], start: int, stop: int) -> tuple[Chunk, int]:
        """The rows of batches[start:stop], or of as many as fit, and the index where they end."""


class ResidentFeed(AbstractFeed):
    """All rows on the device, as stored, for the whole run.

    Rows and batches are padded to a `shared_size`, because another shape would compile the loop
    again: the folds of a cross-validation share one program.
    """

    def __init__(self, data: Batch):
        n = len(data.x)
        self._size = shared_size(n)
        padded = np.arange(self._size) % n
        self._rows = rows_of(data, slice(None) if self._size == n else padded)
        self._order: tuple[NDArray[np.int32], Array] | None = None

    def chunk(self, batches: NDArray[np.int32], start: int, stop: int) -> tuple[Chunk, int]:
        if self._order is None or self._order[0] is not batches:
            spare = self._size // batches.shape[1] - len(batches)
            self._order = (batches, place(np.pad(batches, ((0, spare), (0, 0)))))
        return Chunk(self._rows, self._order[1], _int(start), _int(stop)), stop


class StreamedFeed(AbstractFeed):
    """The rows of one chunk at a time on the device, read from the host when needed."""

    def __init__(self, data: Batch, batch_size: int):
        self._data = data
        per_batch = bytes_of(data) // len(data.x) * batch_size
        self._capacity = max(1, _STREAMED_BYTES // max(1, per_batch))

    def chunk(self, batches: NDArray[np.int32], start: int, stop: int) -> tuple[Chunk, int]:
        steps = min(stop - start, self._capacity)
        due = batches[start : start + steps].reshape(-1)
        size = self._capacity * batches.shape[1]
        # Padded to one size, because another shape would compile the loop again.
        padded = np.concatenate([due, np.broadcast_to(due[:1], size - due.size)])
        rows = rows_of(self._data, padded)
        here = jnp.arange(size, dtype=jnp.int32).reshape(self._capacity, -1)
        return Chunk(rows, here, _int(0), _int(steps)), start + steps


def feed(data: Batch, batch_size: int) -> AbstractFeed:
    """A `ResidentFeed` or, for data above RESIDENT_BYTES, a `StreamedFeed`."""
    if bytes_of(data) <= RESIDENT_BYTES:
        return ResidentFeed(data)
    return StreamedFeed(data, batch_size)


def bytes_of(data: Batch) -> int:
    """The size in bytes of all parts of a data set, as stored."""
    return sum(part.nbytes for part in data.parts())


def _int(value: int) -> Array:
    return jnp.asarray(value, jnp.int32)
