"""Many training steps in one compiled call, on data that lie on the device.

The number of steps is an argument of the compiled program, so that one program serves every chunk
of a run, and where a chunk ends changes no number.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from hvax.training.state import LossFunction, TrainState, Update, traced_numbers, update

LossKwargs = Mapping[str, Any] | Callable[[Int[Array, ""]], Mapping[str, Any]]
Transform = Callable[..., PyTree]
"""transform(batch, *, key) -> batch, where a batch is x or (x, x_out)."""

_TRANSFORM_STREAM = 2**31 - 1  # the loss of step t draws from fold_in(key, t)


class Progress(NamedTuple):
    """A state, and the sums of what its steps reported since the last log event."""

    state: TrainState
    sums: dict[str, Float[Array, ""]]  # of the steps that moved the model
    next: Int[Array, ""]  # which batch is due
    finite: Bool[Array, ""]  # whether the last step moved the model


class Chunk(NamedTuple):
    """The data of one compiled call: stored rows, and which of them make up each batch."""

    rows: tuple[Array, ...]  # (x,) or (x, x_out)
    batches: Int[Array, "steps batch_size"]
    start: Int[Array, ""]
    stop: Int[Array, ""]


class CompiledSteps:
    """The compiled loop over `batches[start:stop]`. It consumes the `Progress` it is given.

    It ends early after a step whose loss or gradient was not finite, with the model that met it.
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

    @property
    def are_compiled(self) -> bool:
        return self._compiled is not None

    def start(
        self, chunk: Chunk, state: TrainState, sums: Mapping[str, float] | None = None
    ) -> Progress:
        """The progress of a state, with sums so far. The first call compiles the loop."""
        if self._compiled is None:
            began = time.perf_counter()
            done = eqx.filter_eval_shape(self._step, chunk, state, chunk.start)
            self._report = {"loss": done.loss, **done.report}
            jitted: Any = eqx.filter_jit(self._steps, donate="all-except-first")
            self._compiled = compiled(jitted, chunk, self._progress(state, {}))
            self.seconds_compiling = time.perf_counter() - began
        return self._progress(state, sums or {})

    def __call__(self, chunk: Chunk, progress: Progress) -> Progress:
        return self._compiled(chunk, progress)

    def _progress(self, state: TrainState, sums: Mapping[str, float]) -> Progress:
        arrays = {
            name: jnp.full(value.shape, sums.get(name, 0.0), value.dtype)
            for name, value in self._report.items()
        }
        return Progress(state, arrays, jnp.zeros((), jnp.int32), jnp.asarray(True))

    def _steps(self, chunk: Chunk, progress: Progress) -> Progress:
        arrays, static = eqx.partition(progress, eqx.is_array)

        def more(arrays: PyTree) -> Bool[Array, ""]:
            return (arrays.next < chunk.stop) & arrays.finite

        def body(arrays: PyTree) -> PyTree:
            before: Progress = eqx.combine(arrays, static)
            done = self._step(chunk, before.state, before.next)
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

    def _step(self, chunk: Chunk, state: TrainState, i: Int[Array, ""]) -> Update:
        x, x_out = self.batch(chunk, i, key=state.key, step=state.step)
        kwargs = self._loss_kwargs
        if callable(kwargs):
            kwargs = traced_numbers(kwargs(state.step))
        return update(state, x, x_out, self._loss_function, kwargs)

    def batch(
        self, chunk: Chunk, i: Int[Array, ""], *, key: PRNGKeyArray, step: Int[Array, ""]
    ) -> tuple[Array, Array | None]:
        """The i-th batch as step `step` sees it: scaled and transformed."""
        parts = tuple(
            _scaled(rows[chunk.batches[i]], scale)
            for rows, scale in zip(chunk.rows, self._scales, strict=True)
        )
        batch = parts if len(parts) == 2 else parts[0]
        if self._transform is not None:
            stream = jax.random.fold_in(key, _TRANSFORM_STREAM)
            batch = self._transform(batch, key=jax.random.fold_in(stream, step))
        return batch if isinstance(batch, tuple) else (batch, None)


def compiled(jitted: Any, *arguments: Any) -> Any:
    """The program of a jitted function for these arguments, compiled now; the function itself
    where JAX_DISABLE_JIT asks for that, so that a debugger may step through it."""
    if cast(Any, jax.config).jax_disable_jit:
        return jitted
    return jitted.lower(*arguments).compile()


def _scaled(rows: Array, scale: float) -> Array:
    return rows if scale == 1 else rows.astype(jnp.float32) / jnp.float32(scale)
