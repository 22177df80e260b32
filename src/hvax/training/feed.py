"""Data on their way to the device: all at once where they fit, else chunk by chunk."""

from abc import ABC, abstractmethod

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import NDArray

from hvax.data.examples import Examples
from hvax.training.compiled_steps import Chunk

RESIDENT_BYTES = 2**31
"""Data of more bytes than this stay on the host and are streamed."""

_STREAMED_BYTES = 2**26


class AbstractFeed(ABC):
    """Gives the compiled loop its data."""

    @abstractmethod
    def chunk(self, batches: NDArray[np.int32], start: int, stop: int) -> tuple[Chunk, int]:
        """The data of batches[start:stop], or of as many as fit; and where they end."""


class ResidentFeed(AbstractFeed):
    """All rows on the device, as stored."""

    def __init__(self, parts: tuple[Examples, ...]):
        self._rows = tuple(jnp.asarray(part.rows(slice(None))) for part in parts)
        self._order: tuple[NDArray[np.int32], Array] | None = None

    def chunk(self, batches: NDArray[np.int32], start: int, stop: int) -> tuple[Chunk, int]:
        if self._order is None or self._order[0] is not batches:
            self._order = (batches, jnp.asarray(batches))
        return Chunk(self._rows, self._order[1], _int(start), _int(stop)), stop


class StreamedFeed(AbstractFeed):
    """The rows of one chunk at a time on the device, read from the host when they are due."""

    def __init__(self, parts: tuple[Examples, ...], batch_size: int):
        self._parts = parts
        per_batch = sum(part.nbytes // len(part) for part in parts) * batch_size
        self._capacity = max(1, _STREAMED_BYTES // max(1, per_batch))

    def chunk(self, batches: NDArray[np.int32], start: int, stop: int) -> tuple[Chunk, int]:
        steps = min(stop - start, self._capacity)
        due = batches[start : start + steps].reshape(-1)
        size = self._capacity * batches.shape[1]
        padded = np.concatenate([due, np.broadcast_to(due[:1], size - due.size)])
        rows = tuple(jnp.asarray(part.rows(padded)) for part in self._parts)
        here = jnp.arange(size, dtype=jnp.int32).reshape(self._capacity, -1)
        return Chunk(rows, here, _int(0), _int(steps)), start + steps


def feed(parts: tuple[Examples, ...], batch_size: int) -> AbstractFeed:
    """The feed that suits the data's size."""
    if sum(part.nbytes for part in parts) <= RESIDENT_BYTES:
        return ResidentFeed(parts)
    return StreamedFeed(parts, batch_size)


def _int(value: int) -> Array:
    return jnp.asarray(value, jnp.int32)
