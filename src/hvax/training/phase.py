"""One training of one model, from its start or its last checkpoint to its end."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from hvax.batch import Batch
from hvax.data.batches import epoch_batches
from hvax.data.digest import digest_of_rows
from hvax.devices import rows_of
from hvax.exceptions import KinkedDecoder, warn
from hvax.hamiltonian.gradient import FiniteDifference
from hvax.models.hvae import HVAE, has_flow
from hvax.models.smoothed import kinks_of
from hvax.progress import progress_bar
from hvax.storage.lock import exclusive_lock
from hvax.storage.run_folder import RunFolder, check_begin
from hvax.training.compiled_steps import Chunk, CompiledSteps
from hvax.training.feed import feed
from hvax.training.flow_start import can_shrink, with_stable_steps
from hvax.training.interrupt import on_interrupt
from hvax.training.loop import Loop, copied
from hvax.training.optimizers import default_optimizer
from hvax.training.options import TrainingOptions
from hvax.training.position import RunPosition, position_of
from hvax.training.run_writer import RunWriter
from hvax.training.state import TrainState, default_loss, state_before
from hvax.training.validation import Validation


class Fit(NamedTuple):
    """The result of `fit`."""

    model: PyTree  # the best by validation bound; without validation data the last
    state: TrainState  # the last
    history: list[dict[str, float | int]]  # one entry per epoch
    best_epoch: int  # at most `vae_epochs` if no epoch with the flow was better than its start
    ended: str
    """finished, early stop, callback, interrupted (Ctrl-C) or terminated (SIGTERM, SIGHUP); or flow
    failed or flow of no use: then the flow was switched off, and the model is the plain VAE."""
    skipped: int  # updates that were skipped because the loss or a gradient was not finite
    seconds_compiling: float
    seconds_training: float
    best_bound: float = -np.inf  # the best bound on validation data, nats
    notes: tuple[str, ...] = ()  # the choices that `fit` made itself, in words
    vae_epochs: int = 0  # those of the history in which the plain VAE was trained, before its flow


def train_phase(
    model: PyTree,
    data: Batch,
    held_out: Batch | None,
    options: TrainingOptions,
    *,
    run_dir: Path | None,
    stabilize: bool = False,
    score_start: bool = False,
) -> Fit:
    """Train one model on data, with `held_out` for validation.

    With `stabilize` step sizes are first shrunk to what is stable, see `flow_start`; with
    `score_start` the given model competes with those of all epochs for the best.
    """
    key = jax.random.key(options.seed)
    steps = CompiledSteps(
        options.loss_function or default_loss(model, options.train_samples),
        options.loss_kwargs or {},
        options.transform,
        data.map(lambda part: part.scale),
    )
    validate = None
    if held_out is not None:
        validate = Validation(
            held_out,
            batch_size=max(options.batch_size, 256),
            num_samples=options.train_samples,
            key=jax.random.fold_in(key, 1),
        )
    with (
        on_interrupt(handle_signals=options.handle_signals) as interrupt,
        _run_folder(run_dir, resume=options.resume) as folder,
    ):
        if stabilize and not (options.resume and folder is not None and folder.checkpoints):
            model = _stabilized(model, data, steps, options, key)
        # The loop consumes the state it is given, so no array in it may be the caller's, nor
        # another's: an optimizer may begin with the weights themselves.
        optimizer = default_optimizer() if options.optimizer is None else options.optimizer
        state = copied(state_before(model, optimizer, key=jax.random.fold_in(key, 0)))
        _warn_of_kinks(state, data, steps)
        position, best = RunPosition(), copied(model)
        identity = {} if folder is None else _identity(data, held_out, options)
        if folder is not None:
            found = folder.checkpoints.read({"state": state, "best": best}, position_of)
            if found is not None:
                _check_identity(found.record["identity"], identity)
                state, best = found.trees["state"], found.trees["best"]
                position = position_of(found.step, found.record)
            folder.go_back_to(int(state.step), position.history)
        with progress_bar(
            progress=options.progress,
            total=options.epochs * (len(data.x) // options.batch_size),
            initial=int(state.step),
            unit="step",
            desc="training",
        ) as bar:
            loop = Loop(
                state,
                best,
                position,
                options=options,
                steps=steps,
                examples=len(data.x),
                feed=feed(data, options.batch_size),
                validate=validate,
                writer=RunWriter(folder, identity, options, step=int(state.step)),
                interrupt=interrupt,
                bar=bar,
                score_start=score_start,
            )
            if position.ended == "callback":
                loop.save()
            else:
                loop.run()
    return Fit(
        model=loop.model,
        state=loop.state,
        history=position.history,
        best_epoch=position.best_epoch,
        ended=position.ended,
        skipped=position.skipped_in_all,
        seconds_compiling=position.compiling,
        seconds_training=position.seconds - position.compiling,
        best_bound=position.best_elbo,
    )


def _stabilized(
    model: PyTree,
    data: Batch,
    steps: CompiledSteps,
    options: TrainingOptions,
    key: PRNGKeyArray,
) -> PyTree:
    """The model with step sizes that are stable for the first batch of its first epoch."""
    if not can_shrink(model):
        return model
    batches = epoch_batches(len(data.x), options.batch_size, seed=options.seed, epoch=1)[:1]
    rows = rows_of(data, batches[0])
    zero = jnp.zeros((), jnp.int32)
    chunk = Chunk(rows, jnp.arange(options.batch_size, dtype=jnp.int32)[None], zero, zero)
    batch = steps.batch(chunk, zero, key=jax.random.fold_in(key, 2), step=zero)
    return with_stable_steps(model, batch, key=jax.random.fold_in(key, 3))[0]


def _warn_of_kinks(state: TrainState, data: Batch, steps: CompiledSteps) -> None:
    """Warn (`KinkedDecoder`) if the force on the flow jumps, as with a relu decoder."""
    model = state.model
    if not isinstance(model, HVAE) or not has_flow(model) or model.potential_for_flow is not None:
        return
    gradient = getattr(model.flow, "gradient", None)
    if isinstance(gradient, FiniteDifference):  # U itself has no jumps, nor have its differences
        return
    rows = rows_of(data, slice(0, 1))
    first = Chunk(rows, jnp.zeros((1, 1), jnp.int32), start=state.step, stop=state.step)

    def one() -> tuple[Array, Array, dict[str, Array]]:
        batch = steps.batch(first, state.step, key=state.key, step=state.step)
        x, target, given = jax.tree.map(lambda a: a[0], (batch.x, batch.scored, batch.given()))
        z, _ = model.posterior(x, **given).sample_and_log_prob(key=state.key)
        return target, z, given

    # Only shapes are traced: nothing is computed, and a user's transform is not run.
    target, z, given = jax.eval_shape(one)
    if kinks := kinks_of(lambda x, z, given: model.potential(x, **given)(z), target, z, given):
        warn(
            KinkedDecoder,
            f"the decoder has {', '.join(sorted(kinks))}, so the force on the flow jumps, and the "
            "gradient of training is biased: take softplus, silu or gelu; or with relu "
            "HVAE(vae, flow, potential=hvax.models.SmoothedPotential()).",
        )


@contextlib.contextmanager
def _run_folder(path: Path | None, *, resume: bool) -> Iterator[RunFolder | None]:
    """The run's folder, created if missing and locked; None without a path.

    Raises `ValueError` if it holds what the run would replace, or if another process uses it.
    """
    if path is None:
        yield None
        return
    folder = RunFolder(path)
    check_begin(folder.path, resume=resume)
    folder.checkpoints.folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder.checkpoints.folder, protects=folder.path):
        check_begin(folder.path, resume=resume)  # another run may have ended meanwhile
        yield folder


def _identity(
    data: Batch,
    held_out: Batch | None,
    options: TrainingOptions,
) -> dict[str, Any]:
    """What a resumed run must have in common with the one that it continues."""
    validated = None if held_out is None else digest_of_rows(held_out.parts())
    return {
        "seed": options.seed,
        "batch_size": options.batch_size,
        "num_samples": options.train_samples,
        "examples": [len(data.x), *(list(part.x_shape) for part in data.parts())],
        "scale": [part.scale for part in data.parts()],
        "digest of the data": digest_of_rows(data.parts()),
        # The best model so far is the best on these.
        "digest of the validation data": validated,
    }


def _check_identity(there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise `ValueError` if a run cannot be resumed by this call, whose identity is `here`."""
    for name, value in here.items():
        if there.get(name) != value:
            raise ValueError(
                f"the run to resume has another {name}: {there.get(name)} there, {value} here."
            )
