"""`hvax.fit`: checks its arguments, prepares the model for the data, and trains it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import optax
from tqdm import tqdm

from hvax.batch import Batch
from hvax.checked_data import checked_training_data, describe_missing, warn_of_unresolved
from hvax.checks import check_path
from hvax.compile_cache import keep_compiled_programs
from hvax.data.examples import with_origin
from hvax.models.hvae import HVAE, has_flow
from hvax.models.latent_model import AbstractLatentModel, check_model
from hvax.models.origin import origin_of
from hvax.storage.run_folder import MODEL, read_plan
from hvax.storage.structure import check_saveable
from hvax.training.compiled_steps import LossKwargs, Transform
from hvax.training.optimizers import default_optimizer
from hvax.training.options import Event, TrainingOptions
from hvax.training.phase import Fit, train_phase
from hvax.training.prepare import is_trained, prepared_if_needed
from hvax.training.schedule import first_epoch_with_flow, schedule
from hvax.training.state import LossFunction, check_optimizer
from hvax.training.two_phases import vae_then_flow
from hvax.wording import counted


def fit(
    model: AbstractLatentModel,
    data: Any,
    *,
    validation: Any = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    train_samples: int = 1,
    loss_function: LossFunction | None = None,
    loss_kwargs: LossKwargs | None = None,
    transform: Transform | None = None,
    patience: int | None = None,
    prepare: bool = True,
    flow_from_epoch: int | None = None,
    seed: int = 0,
    callback: Callable[[Event], Any] | None = None,
    progress: bool = True,
    run_dir: str | Path | None = None,
    resume: bool = False,
    save_seconds: float = 60.0,
    save_steps: int | None = None,
    max_skipped: int = 10,
    handle_signals: bool = False,
) -> Fit:
    """Train a model, and return the one with the best validation bound: the ELBO, or with
    `train_samples` > 1 the importance-weighted bound.

    The batch and the noise of step t are functions of (seed, t) alone. An epoch's last, partial
    batch is dropped. Ctrl-C raises `KeyboardInterrupt` after the current steps and, with a
    `run_dir`, after their checkpoint: `resume=True` continues from there. A second Ctrl-C raises at
    once. An update whose loss or gradient is not finite is skipped, with a `SkippedUpdate` warning,
    and the flow's learned step sizes are halved.

    **Arguments:**

    - `data`, `validation`: arrays with the batch axis first, pairs (x, target) of them, or a
      `Batch` of arrays or `Examples`. NaN (in DataFrames also None and NA) is a missing value: the
      bound is then one on log p of the observed values. Encoders that take a mask do better with
      them: `hvax.mlp(..., missing_values=True)`. Data too large for the device stay on the host
      (they may be memory-mapped).
    - `optimizer`: any of optax's; by default Adam at 1e-3 inside the wrappers of `hvax.training`,
      `scale_flow_updates(flatten_small(clip_by_running_norm(optax.adam(1e-3))))`. With
      `flatten_small` others too compile faster.
    - `epochs`, `batch_size`: by default chosen by the number of examples: about 20,000 updates.
    - `train_samples`: draws per example, in the default loss and in validation. With more than one
      the importance-weighted bound is trained and validated; `loss_kwargs={"estimator": "dreg"}`
      chooses its doubly reparameterized gradient.
    - `loss_function`: (model, batch, *, key, **loss_kwargs) -> loss, of a `Batch`; by default
      `hvax.loss`. As with `jax.jit`, the compiled step is kept for the next `fit` with the same
      function, and what the function reads from outside is read once.
    - `loss_kwargs`: a dict, or a function of the (traced) step that returns one, for warm-ups:
      `lambda step: {"kl_weight": jnp.minimum(1.0, step / 1000)}`.
    - `transform`: `transform(batch, key=key) -> batch` on the device, with a new key at every step,
      of training data only; for instance `batch._replace(x=...)`.
    - `patience`: stop after this many epochs without a better validation bound; 0 never stops. By
      default the epochs of about 1,000 updates, at least 10, if there are validation data.
    - `prepare`: put untrained networks into the units of the data first, if these are far from mean
      0 and scale 1; see `hvax.prepare`. Never done with a `loss_function` of your own, which may
      depend on the model's parts, nor with a `transform`.
    - `flow_from_epoch`: the epoch, from 1, that turns the flow of an HVAE on; before it the plain
      VAE inside is trained. By default the flow gets about the last quarter of the time; it is on
      from epoch 1 if the VAE is trained already (its bound is above that of independent features),
      and with a `loss_function` or `loss_kwargs` of your own. Learned step sizes start where
      trajectories are stable. A flow that fails, or that leaves the validation bound below that of
      the plain VAE, is switched off, with a `FlowFailed` warning; one that none of its epochs
      improves is kept as it was turned on, with a note.
    - `callback`: called with an `Event` after each epoch; returning True ends the run.
    - `run_dir`: a folder for checkpoints, the best model and the metrics of each epoch.
    - `resume`: continue from the latest checkpoint in `run_dir`, if there is one. With the same
      arguments the run ends with the same bits as an uninterrupted one. `epochs` may be larger and
      `patience` may differ. A callback may be called twice for the epoch that was interrupted.
    - `save_seconds`, `save_steps`: seconds or steps between checkpoints. The end is saved too.
    - `max_skipped`: stop after this many consecutive skipped updates.
    - `handle_signals`: Ctrl-C, SIGTERM and SIGHUP end the run as a callback does: `fit` returns
      what it has, and `ended` is "interrupted" or "terminated". For programs. By default SIGTERM
      and SIGHUP keep their handlers, and so does SIGINT if its handler is not Python's own.

    Raises `ValueError` for data that do not suit the model's likelihood, a batch larger than the
    data, numbers out of range, a `run_dir` that holds a run or is used by another process, and for
    resuming with other data, another seed or batch size; `TypeError` for what is no array of real
    numbers; `OSError` if a checkpoint cannot be written; `FloatingPointError` after `max_skipped`
    consecutive skipped updates, unless a flow could be switched off: the checkpoints remain.
    """
    keep_compiled_programs()
    check_model(model)
    examples, held_out = checked_training_data(model, data, validation)
    chosen = schedule(
        len(examples.x),
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        validated=held_out is not None,
    )
    options = TrainingOptions(
        batch_size=chosen.batch_size,
        epochs=chosen.epochs,
        seed=seed,
        max_skipped=max_skipped,
        save_seconds=save_seconds,
        save_steps=save_steps,
        patience=chosen.patience,
        callback=callback,
        optimizer=default_optimizer() if optimizer is None else optimizer,
        train_samples=train_samples,
        loss_function=loss_function,
        loss_kwargs=loss_kwargs,
        transform=transform,
        progress=progress,
        resume=resume,
        handle_signals=handle_signals,
    )
    options.check_for(examples, held_out)
    if run_dir is not None:
        check_path(run_dir, "run_dir")
    folder = None if run_dir is None else Path(run_dir)
    if folder is not None:
        check_saveable(model, folder / MODEL)
    elif resume:
        raise ValueError("resume needs the run_dir to resume from.")
    missing = describe_missing(examples) if prepare else None  # else the caller knows the data
    notes = [] if missing is None else [missing]
    if prepare and loss_function is None and transform is None:
        key = jax.random.fold_in(jax.random.key(seed), 4)
        model, found = prepared_if_needed(model, examples, held_out, key=key)
        if found is not None:
            notes.append(f"networks in the units of the data: {found.describe()}")
            examples = with_origin(examples, origin_of(model))
            if held_out is not None:
                held_out = with_origin(held_out, origin_of(model))
    warn_of_unresolved(examples, "data")
    first = _first_epoch_with_flow(model, examples, options, folder, given=flow_from_epoch)
    check_optimizer(options.optimizer, model)
    if None in (epochs, batch_size):
        notes.append(f"at most {options.epochs} epochs, batches of {options.batch_size}")
    if first > 1:
        notes.append(
            f"at most {counted(first - 1, 'epoch')} of the plain VAE, then at most "
            f"{options.epochs - first + 1} with the flow"
        )
    _tell(notes, progress=progress)
    if first == 1:
        fitted = train_phase(model, examples, held_out, options, run_dir=folder, stabilize=True)
    else:
        assert isinstance(model, HVAE)  # as it has a flow
        fitted = vae_then_flow(
            model, examples, held_out, options, flow_from_epoch=first, run_dir=folder
        )
    _tell(fitted.notes, progress=progress)
    return fitted._replace(notes=(*notes, *fitted.notes))


def _tell(notes: Iterable[str], *, progress: bool) -> None:
    if progress:
        for note in notes:
            tqdm.write(f"fit: {note}")


def _first_epoch_with_flow(
    model: AbstractLatentModel,
    examples: Batch,
    options: TrainingOptions,
    folder: Path | None,
    *,
    given: int | None,
) -> int:
    """The epoch, from 1, that turns the flow on: as given, as before, or by default."""
    own_loss = options.loss_function is not None or options.loss_kwargs is not None
    if given is None and options.resume and folder is not None:
        given = read_plan(folder)
    if given is None:
        if own_loss or not isinstance(model, HVAE) or not has_flow(model):
            return 1
        # A transform may show the model other data than these: then nothing is known of its bound.
        if options.transform is None and is_trained(model.vae, examples):
            return 1
    gradients = model.flow.num_gradients if isinstance(model, HVAE) else 0
    first = first_epoch_with_flow(
        len(examples.x),
        epochs=options.epochs,
        batch_size=options.batch_size,
        gradients=gradients,
        given=given,
    )
    return first if has_flow(model) else 1
