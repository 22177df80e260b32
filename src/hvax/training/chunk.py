"""Many training steps in one compiled call, on data that lie on the device.

The number of steps is an argument of the compiled program, so that one program serves every chunk
of a run, and where a chunk ends changes no number.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from hvax.training.state import LossFunction, TrainState, traced_numbers, update

LossKwargs = Mapping[str, Any] | Callable[[Int[Array, ""]], Mapping[str, Any]]
Transform = Callable[..., PyTree]
"""transform(batch, *, key) -> batch, where a batch is x or (x, x_out)."""

_TRANSFORM_STREAM = 2**31 - 1  # the loss of step t draws from fold_in(key, t)


class Progress(NamedTuple):
    """A state, and the sums of what its steps reported since the last log event."""

    state: TrainState
    sums: dict[str, Float[Array, ""]]


class Chunk(NamedTuple):
    """The data of one compiled call: stored rows, and which of them make up each batch."""

    rows: tuple[Array, ...]  # (x,) or (x, x_out)
    batches: Int[Array, "steps batch_size"]
    start: Int[Array, ""]
    stop: Int[Array, ""]


class CompiledSteps:
    """The compiled loop over `batches[start:stop]`. It consumes the `Progress` it is given.

    `scales` are what the stored rows are divided by; `transform` comes after, with a fresh key.
    """

    def __init__(
        self,
        loss_function: LossFunction,
        loss_kwargs: LossKwargs,
        transform: Transform | None,
        scales: tuple[float, ...],
    ):
        self._loss_function = loss_function
        self._loss_kwargs = loss_kwargs if callable(loss_kwargs) else traced_numbers(loss_kwargs)
        self._transform = transform
        self._scales = scales
        self._compiled: Any = None
        self._report: Mapping[str, Any] = {}
        self.seconds_compiling = 0.0

    def start(self, chunk: Chunk, state: TrainState) -> Progress:
        """The progress before the first step. The first call compiles the loop."""
        if self._compiled is None:
            began = time.perf_counter()
            _, self._report = eqx.filter_eval_shape(self._step, chunk, state, chunk.start)
            jitted: Any = eqx.filter_jit(self._steps, donate="all-except-first")
            self._compiled = jitted.lower(chunk, self._nothing_yet(state)).compile()
            self.seconds_compiling = time.perf_counter() - began
        return self._nothing_yet(state)

    def __call__(self, chunk: Chunk, progress: Progress) -> Progress:
        return self._compiled(chunk, progress)

    def _nothing_yet(self, state: TrainState) -> Progress:
        return Progress(
            state, {name: jnp.zeros(v.shape, v.dtype) for name, v in self._report.items()}
        )

    def _steps(self, chunk: Chunk, progress: Progress) -> Progress:
        arrays, static = eqx.partition(progress, eqx.is_array)

        def body(i: Int[Array, ""], arrays: PyTree) -> PyTree:
            before: Progress = eqx.combine(arrays, static)
            state, report = self._step(chunk, before.state, i)
            sums = {name: before.sums[name] + value for name, value in report.items()}
            return eqx.filter(Progress(state, sums), eqx.is_array)

        return eqx.combine(jax.lax.fori_loop(chunk.start, chunk.stop, body, arrays), static)

    def _step(
        self, chunk: Chunk, state: TrainState, i: Int[Array, ""]
    ) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
        x, x_out = self._batch(chunk, i, key=state.key, step=state.step)
        kwargs = self._loss_kwargs
        if callable(kwargs):
            kwargs = traced_numbers(kwargs(state.step))
        state, value, report = update(state, x, x_out, self._loss_function, kwargs)
        return state, {"loss": value, **report}

    def _batch(
        self, chunk: Chunk, i: Int[Array, ""], *, key: PRNGKeyArray, step: Int[Array, ""]
    ) -> tuple[Array, Array | None]:
        parts = tuple(
            _scaled(rows[chunk.batches[i]], scale)
            for rows, scale in zip(chunk.rows, self._scales, strict=True)
        )
        batch = parts if len(parts) == 2 else parts[0]
        if self._transform is not None:
            stream = jax.random.fold_in(key, _TRANSFORM_STREAM)
            batch = self._transform(batch, key=jax.random.fold_in(stream, step))
        return batch if isinstance(batch, tuple) else (batch, None)


def _scaled(rows: Array, scale: float) -> Array:
    return rows if scale == 1 else rows.astype(jnp.float32) / jnp.float32(scale)
