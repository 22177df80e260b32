"""The training loop: epochs, validation, the best model, early stopping."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree
from numpy.typing import NDArray
from tqdm import tqdm

from hvax.data.batches import epoch_batches
from hvax.data.examples import Examples, as_pair
from hvax.models.hvae import plain_vae
from hvax.training.chunk import CompiledSteps, LossKwargs, Transform
from hvax.training.feed import AbstractFeed, feed
from hvax.training.interrupt import Interrupt, on_interrupt
from hvax.training.state import LossFunction, TrainState, default_loss, train_state
from hvax.training.validation import Validation

_CHUNK_SECONDS = 1.0  # about how long the host waits for the device: progress and Ctrl-C are prompt


class Event(NamedTuple):
    """What a callback is told at the end of an epoch."""

    epoch: int  # from 1
    metrics: dict[str, float]
    model: PyTree


class Fit(NamedTuple):
    """What a training run leaves."""

    model: PyTree  # the best by validation ELBO; without validation data the last
    state: TrainState  # the last
    history: list[dict[str, float]]  # one entry per epoch
    best_epoch: int
    ended: str  # finished, early stop, interrupted or callback
    seconds_compiling: float
    seconds_training: float


def fit(
    model: PyTree,
    data: Any,
    *,
    validation: Any = None,
    optimiser: optax.GradientTransformation | None = None,
    epochs: int = 100,
    batch_size: int = 100,
    loss_function: LossFunction | None = None,
    loss_kwargs: LossKwargs | None = None,
    transform: Transform | None = None,
    patience: int | None = None,
    seed: int = 0,
    callback: Callable[[Event], Any] | None = None,
    progress: bool = True,
) -> Fit:
    """Trains a model on arrays, and keeps the one with the best validation ELBO.

    The batch and the noise of step t are functions of (seed, t) alone; the last partial batch of
    an epoch is dropped. Ctrl-C ends the run after the steps in hand, with what it has.

    **Arguments:**

    - `data`, `validation`: arrays with the batch axis first, or pairs (x_in, x_out) of them, or
      `Examples`. Data too large for the device stay on the host (memory-mapped, say).
    - `optimiser`: any of optax's; Adam at 1e-3 by default.
    - `loss_function`: (model, x[, x_out], *, key, **loss_kwargs) -> loss; by default `loss` for
      an HVAE, `vae_loss` for a VAE.
    - `loss_kwargs`: a dict, or a function of the (traced) step that gives one, for warm-ups:
      `lambda step: {"kl_weight": jnp.minimum(1.0, step / 1000)}`.
    - `transform`: `transform(batch, key=key) -> batch` on the device, afresh at every step, on
      training data alone; batch is x or (x_in, x_out).
    - `patience`: stop after this many epochs without a better validation ELBO.
    - `callback`: called with an `Event` after each epoch; returning True ends the run.

    Raises `ValueError` for data that do not suit the model's likelihood, a batch larger than the
    data, and numbers out of range; `TypeError` for what is no array of real numbers.
    """
    parts, held_out = check_fit(
        model, data, validation, epochs=epochs, batch_size=batch_size, patience=patience
    )
    key = jax.random.key(seed)
    # The loop consumes the state it is given, so it works on copies of the caller's arrays.
    state = train_state(_copy(model), optimiser or optax.adam(1e-3), key=jax.random.fold_in(key, 0))
    scales = tuple(part.scale for part in parts)
    loss_function = loss_function or default_loss(model)
    steps = CompiledSteps(loss_function, loss_kwargs or {}, transform, scales)
    source, validate = feed(parts, batch_size), None
    if held_out is not None:
        held_out_key = jax.random.fold_in(key, 1)
        validate = Validation(held_out, batch_size=max(batch_size, 256), key=held_out_key)

    history: list[dict[str, float]] = []
    best, best_elbo, best_epoch, ended = model, -np.inf, 0, "finished"
    total = epochs * (len(parts[0]) // batch_size)
    bar = tqdm(total=total, disable=not progress, unit="step", desc="training", leave=False)
    began = time.perf_counter()
    with on_interrupt() as interrupt, bar:
        loop = _Loop(steps, source, bar, interrupt)
        for epoch in range(1, epochs + 1):
            batches = epoch_batches(len(parts[0]), batch_size, seed=seed, epoch=epoch)
            state, metrics = loop.epoch(state, batches)
            if validate is not None:
                metrics |= validate(state.model)
            seconds = time.perf_counter() - began
            metrics = {"epoch": epoch, "step": int(state.step), **metrics, "seconds": seconds}
            history.append(metrics)
            elbo = metrics.get("validation_elbo", np.inf)
            if elbo > best_elbo or validate is None or epoch == 1:
                best, best_elbo, best_epoch = _copy(state.model), elbo, epoch
            stop = callback is not None and callback(Event(epoch, metrics, _copy(state.model)))
            if interrupt.requested:
                ended = "interrupted"
            elif isinstance(stop, bool | np.bool_) and stop:
                ended = "callback"
            elif patience is not None and epoch - best_epoch >= patience:
                ended = "early stop"
            if ended != "finished":
                break
    compiling = steps.seconds_compiling + (validate.seconds_compiling if validate else 0.0)
    training = time.perf_counter() - began - compiling
    return Fit(best, state, history, best_epoch, ended, compiling, training)


class _Loop:
    """The steps of an epoch, in compiled calls of about a second."""

    def __init__(self, steps: CompiledSteps, source: AbstractFeed, bar: Any, interrupt: Interrupt):
        self._steps, self._source, self._bar, self._interrupt = steps, source, bar, interrupt
        self._ask = 1  # steps of the next call

    def epoch(
        self, state: TrainState, batches: NDArray[np.int32]
    ) -> tuple[TrainState, dict[str, float]]:
        """The state after an epoch (or up to an interrupt), and the means of its steps' reports."""
        chunk, end = self._source.chunk(batches, 0, min(len(batches), self._ask))
        progress, done = self._steps.start(chunk, state), 0
        while True:
            began = time.perf_counter()
            progress = self._steps(chunk, progress)
            means = {name: float(value) / end for name, value in progress.sums.items()}
            seconds = time.perf_counter() - began
            self._ask = max(1, int((end - done) / seconds * _CHUNK_SECONDS))
            self._bar.update(end - done)
            self._bar.set_postfix(ELBO=f"{means.get('elbo', -means['loss']):.2f}")
            done = end
            if done == len(batches) or self._interrupt.requested:
                return progress.state, means
            chunk, end = self._source.chunk(batches, done, min(len(batches), done + self._ask))


def check_fit(
    model: PyTree,
    data: Any,
    validation: Any,
    *,
    epochs: int,
    batch_size: int,
    patience: int | None,
) -> tuple[tuple[Examples, ...], tuple[Examples, ...] | None]:
    """The data of a `fit` as `Examples`, after every check that `fit` makes before it starts."""
    check = plain_vae(model).decoder.likelihood.check
    parts = as_pair(data, "data", check=check)
    held_out = None if validation is None else as_pair(validation, "validation", check=check)
    for part, other in zip(parts, held_out or (), strict=False):
        if part.x_shape != other.x_shape:
            raise ValueError(
                f"validation must have examples of the shape of data, {part.x_shape}, "
                f"got {other.x_shape}."
            )
    n = len(parts[0])
    if epochs < 1:
        raise ValueError(f"epochs must be >= 1, got {epochs}.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}.")
    if batch_size > n:
        raise ValueError(
            f"batch_size must be at most the number of examples, {n}, got {batch_size}."
        )
    if patience is not None and patience < 1:
        raise ValueError(f"patience must be >= 1, got {patience}.")
    if patience is not None and validation is None:
        raise ValueError("patience needs validation data to watch.")
    return parts, held_out


def _copy(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.array(leaf) if eqx.is_array(leaf) else leaf, tree)
