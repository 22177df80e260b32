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
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from hvax.batch import Batch
from hvax.training.programs import is_compiled, output_shapes, program
from hvax.training.state import LossFunction, TrainState, Update, traced_numbers, update

LossKwargs = Mapping[str, Any] | Callable[[Int[Array, ""]], Mapping[str, Any]]
Transform = Callable[..., Batch]
"""transform(batch, *, key) -> batch, of a `Batch` on the device."""

_TRANSFORM_STREAM = 2**31 - 1  # the loss of step t draws from fold_in(key, t)


class Progress(NamedTuple):
    """A state, and the sums of what its steps reported since the last log event."""

    state: TrainState
    sums: dict[str, Float[Array, ""]]  # of the steps that moved the model
    next: Int[Array, ""]  # which batch is due
    finite: Bool[Array, ""]  # whether the last step moved the model


class Chunk(NamedTuple):
    """The data of one compiled call: stored rows, and which of them make up each batch."""

    rows: Batch
    batches: Int[Array, "steps batch_size"]
    start: Int[Array, ""]
    stop: Int[Array, ""]


class CompiledSteps:
    """The compiled loop over `batches[start:stop]`.

    It ends early after a step whose loss or gradient was not finite, with the model that met it.
    `scales` are what the stored rows of each part are divided by; `transform` comes after, with a
    fresh key.
    """

    def __init__(
        self,
        loss_function: LossFunction,
        loss_kwargs: LossKwargs,
        transform: Transform | None,
        scales: Batch,
    ):
        given = loss_kwargs if callable(loss_kwargs) else None
        self._steps = _Steps(loss_function, given, transform, scales)
        self._kwargs = {} if callable(loss_kwargs) else traced_numbers(loss_kwargs)
        self._program: Callable | None = None
        self._report: Mapping[str, Any] = {}
        self.seconds_compiling = 0.0

    def is_ready(self, chunk: Chunk, state: TrainState) -> bool:
        """Whether `start` compiles nothing."""
        if self._program is not None:
            return True
        self._look_at(chunk, state)
        return is_compiled(self._steps, (chunk, self._kwargs), self._progress(state, {}), **_DONATE)

    def start(
        self, chunk: Chunk, state: TrainState, sums: Mapping[str, float] | None = None
    ) -> Progress:
        """The progress of a state, with sums so far. The first call compiles the loop."""
        if self._program is None:
            began = time.perf_counter()
            self._look_at(chunk, state)
            arguments = (chunk, self._kwargs), self._progress(state, {})
            self._program = program(self._steps, *arguments, **_DONATE)
            self.seconds_compiling = time.perf_counter() - began
        return self._progress(state, sums or {})

    def __call__(self, chunk: Chunk, progress: Progress) -> Progress:
        """The progress after a chunk. The argument's buffers are donated; do not reuse it."""
        assert self._program is not None, "start comes first"
        return self._program((chunk, self._kwargs), progress)

    def batch(
        self, chunk: Chunk, i: Int[Array, ""], *, key: PRNGKeyArray, step: Int[Array, ""]
    ) -> Batch:
        """The i-th batch as step `step` sees it: scaled and transformed."""
        return self._steps.batch(chunk, i, key=key, step=step)

    def _look_at(self, chunk: Chunk, state: TrainState) -> None:
        """What a step reports, told from shapes alone."""
        if not self._report:
            step = output_shapes(_OneStep(self._steps), (chunk, self._kwargs), state, chunk.start)
            self._report = {"loss": step.loss, **step.report}

    def _progress(self, state: TrainState, sums: Mapping[str, float]) -> Progress:
        arrays = {
            name: jnp.full(value.shape, sums.get(name, 0.0), value.dtype)
            for name, value in self._report.items()
        }
        return Progress(state, arrays, jnp.zeros((), jnp.int32), jnp.asarray(True))


_DONATE = {"donate": "all-except-first"}


class _Steps(NamedTuple):
    """The loop as a function; equal for trainings that may share its program."""

    loss_function: LossFunction
    kwargs_of_step: Callable[[Int[Array, ""]], Mapping[str, Any]] | None
    transform: Transform | None
    scales: Batch

    def __call__(self, data: tuple[Chunk, dict[str, Any]], progress: Progress) -> Progress:
        chunk, _ = data
        arrays, static = eqx.partition(progress, eqx.is_array)

        def more(arrays: PyTree) -> Bool[Array, ""]:
            return (arrays.next < chunk.stop) & arrays.finite

        def body(arrays: PyTree) -> PyTree:
            before: Progress = eqx.combine(arrays, static)
            done = self.step(data, before.state, before.next)
            report = {"loss": done.loss, **done.report}
            sums = {
                name: jnp.where(done.finite, before.sums[name] + value, before.sums[name])
                for name, value in report.items()
            }
            return eqx.filter(
                Progress(done.state, sums, before.next + 1, done.finite), eqx.is_array
            )

        start = arrays._replace(next=chunk.start, finite=jnp.asarray(True))
        return eqx.combine(jax.lax.while_loop(more, body, start), static)

    def step(
        self, data: tuple[Chunk, dict[str, Any]], state: TrainState, i: Int[Array, ""]
    ) -> Update:
        chunk, kwargs = data
        batch = self.batch(chunk, i, key=state.key, step=state.step)
        if self.kwargs_of_step is not None:
            kwargs = traced_numbers(self.kwargs_of_step(state.step))
        return update(state, batch, self.loss_function, kwargs)

    def batch(
        self, chunk: Chunk, i: Int[Array, ""], *, key: PRNGKeyArray, step: Int[Array, ""]
    ) -> Batch:
        rows = chunk.rows.map(lambda rows: rows[chunk.batches[i]])
        parts = zip(rows, self.scales, strict=True)
        batch = Batch(*(None if rows is None else _scaled(rows, scale) for rows, scale in parts))
        if self.transform is None:
            return batch
        stream = jax.random.fold_in(key, _TRANSFORM_STREAM)
        batch = self.transform(batch, key=jax.random.fold_in(stream, step))
        if not isinstance(batch, Batch):
            raise TypeError(
                f"transform must give a Batch, got a {type(batch).__name__}. Take "
                "batch._replace(x=...) of the one it was given."
            )
        return batch


class _OneStep(NamedTuple):
    """One step of the loop, equal where the loops are: methods are equal by identity alone."""

    steps: _Steps

    def __call__(self, *arguments: Any) -> Update:
        return self.steps.step(*arguments)


def _scaled(rows: Array, scale: float) -> Array:
    return rows if scale == 1 else rows.astype(jnp.float32) / jnp.float32(scale)
