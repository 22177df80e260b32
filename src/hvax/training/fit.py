"""Training a model on arrays: in the data's units, a plain VAE first and its flow later."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import PyTree
from tqdm import tqdm

from hvax.batch import Batch
from hvax.checked_data import checked_data, warn_of_unresolved
from hvax.checks import check_callable, check_kind, check_path, count
from hvax.compile_cache import keep_compiled_programs
from hvax.data.examples import with_origin
from hvax.exceptions import FlowFailed, warn
from hvax.models.hvae import HVAE, has_flow
from hvax.models.latent_model import AbstractLatentModel
from hvax.models.origin import origin_of
from hvax.storage.run_folder import BEFORE_FLOW, MODEL, check_unused, read_plan, write_plan
from hvax.storage.structure import check_saveable, save
from hvax.training.compiled_steps import LossKwargs, Transform
from hvax.training.flow_start import switched_off
from hvax.training.loop import Event as Event
from hvax.training.loop import TrainingOptions
from hvax.training.optimizers import default_optimizer
from hvax.training.phase import Fit as Fit
from hvax.training.phase import train_phase
from hvax.training.prepare import is_trained, prepared_if_needed
from hvax.training.schedule import Schedule, epochs_with_flow, schedule
from hvax.training.state import LossFunction, check_optimizer
from hvax.wording import named

_SIGNALS = ("interrupted", "terminated", "callback")


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
    parts, held_out = check_data(model, data, validation)
    chosen = schedule(
        len(parts.x),
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        validated=held_out is not None,
    )
    plan = TrainingOptions(
        batch_size=chosen.batch_size,
        epochs=chosen.epochs,
        seed=seed,
        max_skipped=max_skipped,
        save_seconds=save_seconds,
        save_steps=save_steps,
        patience=chosen.patience,
        callback=callback,
    )
    check_plan(plan, parts, held_out)
    for name, function in (("loss_function", loss_function), ("transform", transform)):
        if function is not None:
            check_callable(function, name)
    if resume and run_dir is None:
        raise ValueError("resume needs the run_dir to go on from.")
    if run_dir is not None:
        check_path(run_dir, "run_dir")
        check_saveable(model, Path(run_dir) / MODEL)
    notes: list[str] = []
    if prepare and loss_function is None and transform is None:
        key = jax.random.fold_in(jax.random.key(seed), 4)
        model, found = prepared_if_needed(model, parts, held_out, key=key)
        if found is not None:
            notes.append(f"networks in the units of the data: {found.describe()}")
            parts = with_origin(parts, origin_of(model))
            if held_out is not None:
                held_out = with_origin(held_out, origin_of(model))
    warn_of_unresolved(parts, "data")
    own_loss = loss_function is not None or loss_kwargs is not None
    known = None if transform is not None else parts  # what the model sees of the data
    first = flow_from_epoch
    if first is None:
        first = _flow_from(model, known, len(parts.x), chosen, own_loss)
        if resume and run_dir is not None:
            first = read_plan(Path(run_dir)) or first
    elif count(first, "flow_from_epoch") > chosen.epochs:
        raise ValueError(f"flow_from_epoch must be at most epochs, {chosen.epochs}, got {first}.")
    if not has_flow(model):
        first = 1
    options: dict[str, Any] = {
        "optimizer": default_optimizer() if optimizer is None else optimizer,
        "num_samples": count(num_samples, "num_samples"),
        "loss_function": loss_function,
        "loss_kwargs": loss_kwargs,
        "transform": transform,
        "progress": progress,
        "resume": resume,
        "handle_signals": handle_signals,
    }
    check_optimizer(options["optimizer"], model)
    if None in (epochs, batch_size):
        notes.append(f"at most {plan.epochs} epochs, batches of {plan.batch_size}")
    if first > 1:
        notes.append(f"the plain VAE until epoch {first}, the flow from there")
    if progress:
        for note in notes:
            tqdm.write(f"fit: {note}")
    if first == 1:
        fitted = train_phase(
            model, parts, held_out, plan, run_dir=run_dir, stabilize=True, **options
        )
    else:
        assert isinstance(model, HVAE)  # as it has a flow
        fitted = _in_two_phases(model, parts, held_out, plan, first, run_dir, options)
    return fitted._replace(notes=tuple(notes))


def _in_two_phases(
    model: HVAE,
    parts: Batch,
    held_out: Batch | None,
    plan: TrainingOptions,
    first: int,
    run_dir: str | Path | None,
    options: dict[str, Any],
) -> Fit:
    """The plain VAE until the flow is due, and the flow from the best of its models."""
    folder = None if run_dir is None else Path(run_dir)
    before_flow = None if folder is None else folder / BEFORE_FLOW
    if folder is not None:
        if not options["resume"]:
            check_unused(folder)
        write_plan(folder, first)
    before = train_phase(
        model.vae, parts, held_out, plan.with_epochs(first - 1), run_dir=before_flow, **options
    )
    flowing = eqx.tree_at(lambda m: m.vae, model, before.model)
    if before.ended in _SIGNALS:
        return before._replace(model=flowing)
    done = len(before.history)
    try:
        after = train_phase(
            flowing,
            parts,
            held_out,
            plan.after_epochs(done, plan.epochs - first + 1),
            run_dir=folder,
            stabilize=True,
            score_start=True,
            **options,
        )
    except FloatingPointError as error:
        return _switched_off(before, flowing, folder, "flow failed", str(error))
    joined = after._replace(
        history=concatenate_histories(before.history, after.history),
        best_epoch=after.best_epoch + done,
        skipped=before.skipped + after.skipped,
        seconds_compiling=before.seconds_compiling + after.seconds_compiling,
        seconds_training=before.seconds_training + after.seconds_training,
    )
    over = after.ended not in _SIGNALS  # else it is gone on with, and may come to help
    if over and held_out is not None and not after.best_bound >= before.best_bound - _WORSE:
        why = (
            f"the flow left the validation bound at {after.best_bound:.4g}, below the "
            f"{before.best_bound:.4g} of the plain VAE."
        )
        return _switched_off(joined, flowing, folder, "flow of no use", why)
    return joined


_WORSE = 0.05  # nats that the validation bound with a flow may be below that of its VAE


def _switched_off(fitted: Fit, flowing: HVAE, folder: Path | None, ended: str, why: str) -> Fit:
    """What was earned before the flow: the plain VAE, as an HVAE whose flow has no steps."""
    warn(
        FlowFailed,
        f"{why} The flow was switched off: the model is the plain VAE (num_steps = 0). For a flow "
        f"that helps, try a smaller {named('step_size')} or more {named('epochs')}.",
    )
    model = switched_off(flowing)
    if folder is not None:
        save(model, folder / MODEL)
    return fitted._replace(model=model, ended=ended)


def concatenate_histories(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Two trainings as one: epochs count on."""
    return before + [row | {"epoch": row["epoch"] + len(before)} for row in after]


def _flow_from(
    model: PyTree,
    parts: Batch | None,
    examples: int,
    chosen: Schedule,
    own_loss: bool,
) -> int:
    """The epoch, from 1, in which the flow is turned on by default; `parts` are None where the
    model sees others than are known here."""
    if not isinstance(model, HVAE) or not has_flow(model):
        return 1
    trained = parts is not None and is_trained(model.vae, parts)
    if own_loss or trained:
        return 1
    gradients = model.flow.num_gradients
    updates = max(1, examples // chosen.batch_size)
    return chosen.epochs - epochs_with_flow(chosen.epochs, gradients, updates) + 1


def check_data(
    model: AbstractLatentModel, data: Any, validation: Any
) -> tuple[Batch, Batch | None]:
    """The data of a `fit` as `Examples`, after every check of them."""
    parts = checked_data(model, data, "data")
    held_out = None if validation is None else checked_data(model, validation, "validation")
    if held_out is not None:
        here, there = (data.map(lambda part: part.x_shape) for data in (held_out, parts))
        if here != there:
            raise ValueError(
                f"validation must have examples of the shape of data, {_shapes(there)}, got "
                f"{_shapes(here)}."
            )
    return parts, held_out


def _shapes(shapes: Batch) -> str:
    """That of x alone, or all that are given by their names."""
    given = {name: shape for name, shape in shapes._asdict().items() if shape is not None}
    return str(shapes.x) if len(given) == 1 else str(given)


def check_plan(plan: TrainingOptions, parts: Batch, held_out: Batch | None) -> None:
    """Refuses a plan that the data do not suit."""
    if plan.batch_size > len(parts.x):
        raise ValueError(
            f"batch_size must be at most the number of examples, {len(parts.x)}, "
            f"got {plan.batch_size}."
        )
    if plan.patience is not None and held_out is None:
        raise ValueError("patience needs validation data to watch.")
