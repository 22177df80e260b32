"""Training a model on arrays: epochs, validation, the best model, early stopping, checkpoints."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree
from tqdm import tqdm

from hvax.caution import KinkedDecoder, caution
from hvax.data.examples import Examples, as_pair
from hvax.door import check_callable, count
from hvax.files import held
from hvax.hamiltonian.gradient import Finite
from hvax.models.hvae import HVAE, plain_vae
from hvax.models.smoothed import kinks_of
from hvax.training.chunk import Chunk, CompiledSteps, LossKwargs, Transform
from hvax.training.feed import feed
from hvax.training.folder import RunFolder
from hvax.training.interrupt import on_interrupt
from hvax.training.loop import Event, Loop, Plan, Position, copied
from hvax.training.optimiser import clip_outliers, faster_flow
from hvax.training.state import LossFunction, TrainState, default_loss, train_state
from hvax.training.validation import Validation


class Fit(NamedTuple):
    """What a training run leaves."""

    model: PyTree  # the best by validation ELBO; without validation data the last
    state: TrainState  # the last
    history: list[dict[str, float | int]]  # one entry per epoch
    best_epoch: int
    ended: str  # finished, early stop, interrupted (Ctrl-C), terminated (SIGTERM) or callback
    skipped: int  # updates left out because the loss or a gradient was not finite
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
    num_samples: int = 1,
    loss_function: LossFunction | None = None,
    loss_kwargs: LossKwargs | None = None,
    transform: Transform | None = None,
    patience: int | None = None,
    seed: int = 0,
    callback: Callable[[Event], Any] | None = None,
    progress: bool = True,
    run_dir: str | Path | None = None,
    resume: bool = False,
    save_seconds: float = 60.0,
    save_steps: int | None = None,
    max_skipped: int = 10,
) -> Fit:
    """Trains a model on arrays, and keeps the one with the best validation bound: the ELBO, or that
    of `num_samples` draws.

    The batch and the noise of step t are functions of (seed, t) alone; the last partial batch of
    an epoch is dropped. Ctrl-C and SIGTERM end the run after the steps in hand, with what it has.
    An update whose loss or gradient is not finite is left out, with a `SkippedUpdate` warning.

    **Arguments:**

    - `data`, `validation`: arrays with the batch axis first, or pairs (x_in, x_out) of them, or
      `Examples`. Data too large for the device stay on the host (memory-mapped, say).
    - `optimiser`: any of optax's; `faster_flow(clip_outliers(optax.adam(1e-3)))` by default.
    - `num_samples`: draws for each example, of the default loss and in validation: with more than
      one the importance weighted bound is trained and watched. Its gradient may be
      `loss_kwargs={"estimator": "doubly"}`.
    - `loss_function`: (model, x[, x_out], *, key, **loss_kwargs) -> loss; by default `loss` for
      an HVAE, `vae_loss` for a VAE.
    - `loss_kwargs`: a dict, or a function of the (traced) step that gives one, for warm-ups:
      `lambda step: {"kl_weight": jnp.minimum(1.0, step / 1000)}`.
    - `transform`: `transform(batch, key=key) -> batch` on the device, afresh at every step, on
      training data alone; batch is x or (x_in, x_out).
    - `patience`: stop after this many epochs without a better validation ELBO.
    - `callback`: called with an `Event` after each epoch; returning True ends the run.
    - `run_dir`: a folder for checkpoints, the best model and the metrics of each epoch.
    - `resume`: go on from the latest checkpoint in `run_dir`, where there is one: with the same
      arguments the run ends in the same bits as one that was never interrupted. More `epochs` and
      another `patience` than before are allowed. A callback may see the epoch that was under way
      twice.
    - `save_seconds`, `save_steps`: how often to save; and at the end.
    - `max_skipped`: so many updates left out in a row end the run.

    Raises `ValueError` for data that do not suit the model's likelihood, a batch larger than the
    data, numbers out of range, a `run_dir` that holds a run already or is another process's, and
    for resuming what was started with other data, seed or batch size; `TypeError` for what is no
    array of real numbers; `OSError` where a checkpoint cannot be written; `FloatingPointError`
    after `max_skipped` updates left out in a row, with the checkpoints as they stand.
    """
    plan = Plan(
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
        max_skipped=max_skipped,
        save_seconds=save_seconds,
        save_steps=save_steps,
        patience=patience,
        callback=callback,
    )
    num_samples = count(num_samples, "num_samples")
    parts, held_out = check_fit(model, data, validation, plan)
    for name, function in (("loss_function", loss_function), ("transform", transform)):
        if function is not None:
            check_callable(function, name)
    if resume and run_dir is None:
        raise ValueError("resume needs the run_dir to go on from.")
    key = jax.random.key(seed)
    # The loop consumes the state it is given, so no array in it may be the caller's, nor another's:
    # an optimiser may begin with the weights themselves.
    state = copied(
        train_state(
            model,
            faster_flow(clip_outliers(optax.adam(1e-3))) if optimiser is None else optimiser,
            key=jax.random.fold_in(key, 0),
        )
    )
    scales = tuple(part.scale for part in parts)
    loss_function = loss_function or default_loss(model, num_samples)
    steps = CompiledSteps(loss_function, loss_kwargs or {}, transform, scales)
    _warn_of_kinks(state, parts, steps)
    validate = None
    if held_out is not None:
        held_out_key = jax.random.fold_in(key, 1)
        validate = Validation(
            held_out,
            batch_size=max(batch_size, 256),
            num_samples=num_samples,
            key=held_out_key,
        )
    position, best = Position(), copied(model)
    with on_interrupt() as interrupt, _run_folder(run_dir) as folder:
        identity = {} if folder is None else _identity(parts, plan, num_samples)
        if folder is not None:
            found = folder.checkpoints.read({"state": state, "best": best}) if resume else None
            if found is not None:
                _check_identity(found.record["identity"], identity)
                state, best = found.trees["state"], found.trees["best"]
                position = Position(**found.record["position"])
            elif folder.checkpoints and not resume:
                raise ValueError(
                    f"{folder.path} holds a run already. resume=True goes on with it; else use "
                    "another folder."
                )
            folder.go_back_to(int(state.step), position.history)
        total = epochs * (len(parts[0]) // batch_size)
        with tqdm(
            total=total,
            initial=int(state.step),
            disable=not progress,
            unit="step",
            desc="training",
            leave=False,
        ) as bar:
            loop = Loop(
                state,
                best,
                position,
                plan=plan,
                steps=steps,
                examples=len(parts[0]),
                source=feed(parts, batch_size),
                validate=validate,
                folder=folder,
                identity=identity,
                interrupt=interrupt,
                bar=bar,
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
    )


def _warn_of_kinks(state: TrainState, parts: tuple[Examples, ...], steps: CompiledSteps) -> None:
    model = state.model
    if not isinstance(model, HVAE) or model.potential is not None or model.flow.num_steps == 0:
        return
    if isinstance(model.flow.gradient, Finite):  # differences of U, which has no jumps, have none
        return
    rows = tuple(jnp.asarray(part.rows(slice(0, 1))) for part in parts)
    first = Chunk(rows, jnp.zeros((1, 1), jnp.int32), start=state.step, stop=state.step)

    def one() -> tuple[Array, Array]:
        x, x_out = steps.batch(first, state.step, key=state.key, step=state.step)
        target = (x if x_out is None else x_out)[0]
        return target, model.vae(x[0], target, key=state.key, latent=True).z

    target, z = jax.eval_shape(one)  # shapes alone: a transform does not run before its time
    if kinks := kinks_of(lambda x, z: model.vae.potential(x)(z), target, z):
        caution(
            KinkedDecoder,
            f"the decoder has {', '.join(sorted(kinks))}, so the force on the flow jumps, and the "
            "gradient of training is biased: take softplus, silu or gelu; or with relu "
            "HVAE(vae, flow, potential=hvax.Smoothed()).",
        )


@contextlib.contextmanager
def _run_folder(path: str | Path | None) -> Iterator[RunFolder | None]:
    """The run's folder, made where missing and held against other processes."""
    if path is None:
        yield None
        return
    folder = RunFolder(Path(path))
    folder.checkpoints.folder.mkdir(parents=True, exist_ok=True)
    with held(folder.checkpoints.folder):
        yield folder


def _identity(parts: tuple[Examples, ...], plan: Plan, num_samples: int) -> dict[str, Any]:
    """What a resumed run must have in common with the one that it continues."""
    digest = hashlib.sha256()
    for part in parts:
        some = np.unique(np.linspace(0, len(part) - 1, 1000).astype(int))
        digest.update(np.ascontiguousarray(part.rows(some)).tobytes())
    return {
        "seed": plan.seed,
        "batch_size": plan.batch_size,
        "num_samples": num_samples,
        "examples": [len(parts[0]), *(list(part.x_shape) for part in parts)],
        "scale": [part.scale for part in parts],
        "digest of the data": digest.hexdigest()[:16],
    }


def _check_identity(there: dict[str, Any], here: dict[str, Any]) -> None:
    there = {"num_samples": 1} | there  # which the first runs do not name
    for name, value in here.items():
        if there.get(name) != value:
            raise ValueError(
                f"the run to go on with has another {name}: {there.get(name)} there, {value} here."
            )


def check_fit(
    model: PyTree, data: Any, validation: Any, plan: Plan
) -> tuple[tuple[Examples, ...], tuple[Examples, ...] | None]:
    """The data of a `fit` as `Examples`, after every check of them and of how the plan suits."""
    check = plain_vae(model).decoder.likelihood.check
    parts = as_pair(data, "data", check=check)
    held_out = None if validation is None else as_pair(validation, "validation", check=check)
    for part, other in zip(parts, held_out or (), strict=False):
        if part.x_shape != other.x_shape:
            raise ValueError(
                f"validation must have examples of the shape of data, {part.x_shape}, "
                f"got {other.x_shape}."
            )
    if plan.batch_size > len(parts[0]):
        raise ValueError(
            f"batch_size must be at most the number of examples, {len(parts[0])}, "
            f"got {plan.batch_size}."
        )
    if plan.patience is not None and validation is None:
        raise ValueError("patience needs validation data to watch.")
    return parts, held_out
