"""`hvax.fit`: checks its arguments, prepares the model for the data, and trains it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
from tqdm import tqdm

from hvax.batch import Batch
from hvax.checked_data import checked_training_data, warn_of_unresolved
from hvax.checks import check_kind
from hvax.compile_cache import keep_compiled_programs
from hvax.data.examples import with_origin
from hvax.models.hvae import HVAE, has_flow
from hvax.models.latent_model import AbstractLatentModel
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


def fit(
    model: AbstractLatentModel,
    data: Any,
    *,
    validation: Any = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    num_samples: int = 1,
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
    """Trains a model on arrays, and keeps the one with the best validation bound: the ELBO, or that
    of `num_samples` draws.

    The batch and the noise of step t are functions of (seed, t) alone; the last partial batch of
    an epoch is dropped. Ctrl-C raises `KeyboardInterrupt` after the steps in hand and, with a
    `run_dir`, after their checkpoint: `resume=True` goes on from there. A second one raises at
    once. An update whose loss or gradient is not finite is left out, with a `SkippedUpdate`
    warning, and learned step sizes of the flow are halved.

    **Arguments:**

    - `data`, `validation`: arrays with the batch axis first, pairs (x, target) of them, or a
      `Batch` of arrays or `Examples`. Data too large for the device stay on the host
      (memory-mapped, say).
    - `optimizer`: any of optax's; by default
      `scale_flow_updates(clip_by_running_norm(optax.adam(1e-3)))`.
    - `epochs`, `batch_size`: by default what suits the number of examples: about 20,000 updates.
    - `num_samples`: draws for each example, of the default loss and in validation: with more than
      one the importance weighted bound is trained and watched. Its gradient may be
      `loss_kwargs={"estimator": "dreg"}`.
    - `loss_function`: (model, batch, *, key, **loss_kwargs) -> loss, of a `Batch`; by default
      `hvax.loss`. A compiled step is kept for the next `fit` with the same function, as by
      `jax.jit`: what the function reads elsewhere is read once.
    - `loss_kwargs`: a dict, or a function of the (traced) step that gives one, for warm-ups:
      `lambda step: {"kl_weight": jnp.minimum(1.0, step / 1000)}`.
    - `transform`: `transform(batch, key=key) -> batch` on the device, afresh at every step, on
      training data alone, of a `Batch`: `batch._replace(x=...)`.
    - `patience`: stop after this many epochs without a better validation bound: by default those
      of about 1,000 updates, at least 10, where there are validation data; 0 never stops.
    - `prepare`: whether networks that have not been trained, and whose units are far from those of
      the data, are first put into these units, as `hvax.prepare` does. Never with a
      `loss_function` of your own, which may know the model's parts, or with a `transform`.
    - `flow_from_epoch`: in which epoch the flow of an HVAE is turned on; before it the plain VAE
      inside is trained. By default for about the last quarter of the time; from the first epoch on
      (1) where the VAE is trained already (its bound is above that of independent features) and
      with a `loss_function` or `loss_kwargs` of your own. Its learned step sizes then start where
      trajectories are stable. Where the flow fails, or leaves the validation bound below that of
      the plain VAE, it is switched off, with a `FlowFailed` warning.
    - `callback`: called with an `Event` after each epoch; returning True ends the run.
    - `run_dir`: a folder for checkpoints, the best model and the metrics of each epoch.
    - `resume`: go on from the latest checkpoint in `run_dir`, where there is one: with the same
      arguments the run ends in the same bits as one that was never interrupted. More `epochs` and
      another `patience` than before are allowed. A callback may see the epoch that was under way
      twice.
    - `save_seconds`, `save_steps`: how often to save; and at the end.
    - `max_skipped`: so many updates left out in a row end the run.
    - `handle_signals`: whether Ctrl-C, SIGTERM and SIGHUP end the run as a callback does: `fit`
      returns what it has, and `ended` says "interrupted" or "terminated". For programs; by
      default SIGTERM and SIGHUP do what they do elsewhere, and a handler of SIGINT other than
      Python's own is left in place.

    Raises `ValueError` for data that do not suit the model's likelihood, a batch larger than the
    data, numbers out of range, a `run_dir` that holds a run already or is another process's, and
    for resuming what was started with other data, seed or batch size; `TypeError` for what is no
    array of real numbers; `OSError` where a checkpoint cannot be written; `FloatingPointError`
    after `max_skipped` updates left out in a row without a flow that could be switched off, with
    the checkpoints as they stand.
    """
    keep_compiled_programs()
    check_kind(model, "model", AbstractLatentModel)
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
        num_samples=num_samples,
        loss_function=loss_function,
        loss_kwargs=loss_kwargs,
        transform=transform,
        progress=progress,
        resume=resume,
        handle_signals=handle_signals,
    )
    options.check_for(examples, held_out)
    folder = None if run_dir is None else Path(run_dir)
    if folder is not None:
        check_saveable(model, folder / MODEL)
    elif resume:
        raise ValueError("resume needs the run_dir to go on from.")
    notes: list[str] = []
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
        notes.append(f"the plain VAE until epoch {first}, the flow from there")
    if progress:
        for note in notes:
            tqdm.write(f"fit: {note}")
    if first == 1:
        fitted = train_phase(model, examples, held_out, options, run_dir=folder, stabilize=True)
    else:
        assert isinstance(model, HVAE)  # as it has a flow
        fitted = vae_then_flow(
            model, examples, held_out, options, flow_from_epoch=first, run_dir=folder
        )
    return fitted._replace(notes=tuple(notes))


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
