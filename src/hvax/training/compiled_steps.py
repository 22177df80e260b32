"""Many training steps in one compiled call (a `while_loop`), on data that are on the device.

The number of steps is an argument of the compiled program: one program serves every call of a run,
and how the steps are divided into calls changes no number.
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
from hvax.wording import kind_of

LossKwargs = Mapping[str, Any] | Callable[[Int[Array, ""]], Mapping[str, Any]]
Transform = Callable[..., Batch]
"""transform(batch, *, key) -> batch, from a `Batch` on the device to another."""

# The transform of step t uses fold_in(fold_in(key, this), t), the loss of step t fold_in(key, t):
# the two never share noise, as no run has so many steps.
_TRANSFORM_STREAM = 2**31 - 1


class LoopCarry(NamedTuple):
    """The carry of the compiled loop: the state, and sums of what the epoch's steps reported."""

    state: TrainState
    sums: dict[str, Float[Array, ""]]  # without skipped steps
    next: Int[Array, ""]  # index of the next batch
    finite: Bool[Array, ""]  # whether the last step's loss and gradient were finite


class Chunk(NamedTuple):
    """The data of one compiled call: rows as stored, and the rows of each batch start:stop."""

    rows: Batch
    batches: Int[Array, "steps batch_size"]
    start: Int[Array, ""]
    stop: Int[Array, ""]


class CompiledSteps:
    """The compiled loop over `batches[start:stop]`.

    A call ends early after a step whose loss or gradient was not finite, with the model unchanged
    by that step. Rows are divided by `scales`, one number per part of the batch; then `transform`
    is applied with a fresh key.
    """

    def __init__(
        self,
        loss_function: LossFunction,
        loss_kwargs: LossKwargs,
        transform: Transform | None,
        scales: Batch,
    ):
        kwargs_of_step = loss_kwargs if callable(loss_kwargs) else None
        self._steps = _Steps(loss_function, kwargs_of_step, transform, scales)
        self._kwargs = {} if callable(loss_kwargs) else traced_numbers(loss_kwargs)
        self._program: Callable | None = None
        self._report: Mapping[str, Any] = {}
        self.seconds_compiling = 0.0

    def is_ready(self, chunk: Chunk, state: TrainState) -> bool:
        """Whether `start` would not compile anything."""
        if self._program is not None:
            return True
        self._find_report(chunk, state)
        return is_compiled(self._steps, (chunk, self._kwargs), self._carry(state, {}), **_DONATE)

    def start(
        self, chunk: Chunk, state: TrainState, sums: Mapping[str, float] | None = None
    ) -> LoopCarry:
        """The carry for a state with these sums so far. The first call compiles the loop."""
        if self._program is None:
            began = time.perf_counter()
            self._find_report(chunk, state)
            arguments = (chunk, self._kwargs), self._carry(state, {})
            self._program = program(self._steps, *arguments, **_DONATE)
            self.seconds_compiling = time.perf_counter() - began
        return self._carry(state, sums or {})

    def __call__(self, chunk: Chunk, carry: LoopCarry) -> LoopCarry:
        """Train on a chunk. The buffers of `carry` are donated: do not use it afterwards."""
        assert self._program is not None, "call start first"
        return self._program((chunk, self._kwargs), carry)

    def batch(
        self, chunk: Chunk, i: Int[Array, ""], *, key: PRNGKeyArray, step: Int[Array, ""]
    ) -> Batch:
        """The i-th batch of a chunk, scaled and transformed as in step `step`."""
        return self._steps.batch(chunk, i, key=key, step=step)

    def _find_report(self, chunk: Chunk, state: TrainState) -> None:
        """Find names, shapes and dtypes of what a step reports, by tracing alone."""
        # The carry must have its final structure before the loop starts.
        if not self._report:
            step = output_shapes(_OneStep(self._steps), (chunk, self._kwargs), state, chunk.start)
            self._report = {"loss": step.loss, **step.report}

    def _carry(self, state: TrainState, sums: Mapping[str, float]) -> LoopCarry:
        arrays = {
            name: jnp.full(value.shape, sums.get(name, 0.0), value.dtype)
            for name, value in self._report.items()
        }
        return LoopCarry(state, arrays, jnp.zeros((), jnp.int32), jnp.asarray(True))


_DONATE = {"donate": "all-except-first"}


class _Steps(NamedTuple):
    """The loop as a function.

    A NamedTuple, so that two trainings with equal parts are equal and share one compiled program
    (`programs.py`); a closure or method would be compiled again for each.
    """

    loss_function: LossFunction
    kwargs_of_step: Callable[[Int[Array, ""]], Mapping[str, Any]] | None
    transform: Transform | None
    scales: Batch

    def __call__(self, data: tuple[Chunk, dict[str, Any]], carry: LoopCarry) -> LoopCarry:
        chunk, _ = data
        arrays, static = eqx.partition(carry, eqx.is_array)

        def goes_on(arrays: PyTree) -> Bool[Array, ""]:
            return (arrays.next < chunk.stop) & arrays.finite

        def body(arrays: PyTree) -> PyTree:
            before: LoopCarry = eqx.combine(arrays, static)
            done = self.step(data, before.state, before.next)
            report = {"loss": done.loss, **done.report}
            sums = {
                # Not 0 * value: a NaN of a skipped step must not enter the sums.
                name: jnp.where(done.finite, before.sums[name] + value, before.sums[name])
                for name, value in report.items()
            }
            return eqx.filter(
                LoopCarry(done.state, sums, before.next + 1, done.finite), eqx.is_array
            )

        start = arrays._replace(next=chunk.start, finite=jnp.asarray(True))
        return eqx.combine(jax.lax.while_loop(goes_on, body, start), static)

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
                f"transform must return a Batch, got {kind_of(batch)}. Return "
                "batch._replace(x=...) of its argument."
            )
        return batch


class _OneStep(NamedTuple):
    """One step of the loop as a function; like `_Steps`, equal if its parts are equal."""

    steps: _Steps

    def __call__(self, *arguments: Any) -> Update:
        return self.steps.step(*arguments)


def _scaled(rows: Array, scale: float) -> Array:
    return rows if scale == 1 else rows.astype(jnp.float32) / jnp.float32(scale)
