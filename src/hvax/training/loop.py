"""The loop of a training run: compiled calls of about a second, and what happens between them.

Everything that the next step depends on stands in one `RunPosition`, which a checkpoint holds
whole: a run that is continued from it repeats the uninterrupted one bit for bit.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from tqdm import tqdm

from hvax.batch import Batch
from hvax.checks import check_callable, count, real_number
from hvax.data.batches import epoch_batches
from hvax.exceptions import DivergentTrajectories, SkippedUpdate, warn
from hvax.progress import compiling
from hvax.storage.lock import FolderReplaced
from hvax.storage.run_folder import RunFolder
from hvax.storage.structure import save
from hvax.training import skipped_updates
from hvax.training.compiled_steps import CompiledSteps
from hvax.training.feed import AbstractFeed
from hvax.training.flow_start import with_smaller_steps
from hvax.training.interrupt import Interrupt
from hvax.training.state import TrainState
from hvax.training.validation import Validation

_CHUNK_SECONDS = 1.0  # about how long the host waits for the device: progress and Ctrl-C are prompt
_DIVERGENT = 0.01  # of an epoch's trajectories: a warning, and shorter steps
# What learned step sizes are multiplied with: after an update that was skipped, after an epoch with
# many trajectories that diverged, after one with a diverged trajectory on validation data.
_AFTER_SKIP, _AFTER_DIVERGENCE, _AFTER_ONE = 0.5, 0.7, 0.8


class Event(NamedTuple):
    """What a callback is told at the end of an epoch."""

    epoch: int  # from 1
    metrics: dict[str, float | int]
    model: PyTree


@dataclass
class RunPosition:
    """Where a run stands, but for its arrays: numbers and texts that JSON holds exactly."""

    epoch: int = 1  # the one under way
    done: int = 0  # batches of it
    sums: dict[str, float] = field(default_factory=dict)  # of what its steps reported
    skipped: int = 0  # steps of it whose update was left out
    skipped_in_a_row: int = 0
    history: list[dict[str, float | int]] = field(default_factory=list)
    best_epoch: int = 0
    best_elbo: float = -np.inf  # or the bound of several draws
    ended: str = ""  # finished, early stop, interrupted, terminated or callback
    seconds: float = 0.0  # in all, of every process that had a part in the run
    compiling: float = 0.0  # of them

    @property
    def skipped_in_all(self) -> int:
        return self.skipped + sum(int(row.get("skipped", 0)) for row in self.history)


@dataclass(frozen=True)
class TrainingOptions:
    """What a run is a function of beside its data, and when it ends and saves.

    Raises `ValueError` and `TypeError` for numbers out of range and what cannot be called.
    """

    batch_size: int
    epochs: int
    seed: int
    max_skipped: int
    save_seconds: float
    save_steps: int | None = None
    patience: int | None = None
    callback: Callable[[Event], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "max_skipped"):
            count(getattr(self, name), name)
        for name in ("save_steps", "patience"):
            if getattr(self, name) is not None:
                count(getattr(self, name), name)
        count(self.seed, "seed", least=0)
        if not real_number(self.save_seconds, "save_seconds") > 0:
            raise ValueError(f"save_seconds must be > 0, got {self.save_seconds}.")
        if self.callback is not None:
            check_callable(self.callback, "callback")

    def with_epochs(self, epochs: int) -> "TrainingOptions":
        """The same for so many epochs."""
        return replace(self, epochs=epochs)

    def after_epochs(self, done: int, epochs: int) -> "TrainingOptions":
        """The same for so many epochs after `done` others: a callback is told of all as one."""
        if (callback := self.callback) is None:
            return self.with_epochs(epochs)

        def later(event: Event) -> Any:
            epoch = event.epoch + done
            return callback(event._replace(epoch=epoch, metrics=event.metrics | {"epoch": epoch}))

        return replace(self, epochs=epochs, callback=later)


class Loop:
    """A run from where `position` says it stands to its end."""

    def __init__(
        self,
        state: TrainState,
        best: PyTree,
        position: RunPosition,
        *,
        plan: TrainingOptions,
        steps: CompiledSteps,
        examples: int,
        source: AbstractFeed,
        validate: Validation | None,
        folder: RunFolder | None,
        identity: dict[str, Any],
        interrupt: Interrupt,
        bar: tqdm,
        score_start: bool = False,
    ):
        self.state, self.best, self.position = state, best, position
        self._plan, self._steps, self._validate = plan, steps, validate
        self._examples, self._source = examples, source
        self._folder, self._identity = folder, identity
        self._interrupt, self._bar = interrupt, bar
        self._score_start = score_start
        self._ask = 1  # steps of the next call
        self._began = time.perf_counter() - position.seconds
        self._compiled_before = position.compiling
        self._saved_at, self._saved_step = time.perf_counter(), int(state.step)
        self._exported: PyTree = None

    @property
    def model(self) -> PyTree:
        """The best by validation ELBO; before there is one, and without validation data, the
        last."""
        compared = self._validate is not None and self.position.best_elbo > -np.inf
        return self.best if compared else self.state.model

    def run(self) -> None:
        at, plan = self.position, self._plan
        at.ended = "early stop" if self._is_early_stop() else ""
        try:
            if self._score_start and self._validate is not None and int(self.state.step) == 0:
                at.best_elbo = _bound(self._validate(self.state.model))
            while at.epoch <= plan.epochs and not at.ended:
                if self._epoch():
                    self._end_of_epoch()
                    self._save_if_due()
            at.ended = at.ended or "finished"
            self.save()
        except Exception as error:
            # What an error of the data or of a callback interrupts is not lost.
            if not _consumed(self.state):
                try:
                    self.save()
                except (OSError, FolderReplaced) as failure:
                    error.add_note(str(failure))
            raise

    def _epoch(self) -> bool:
        """Steps to the end of the epoch under way, and True; or up to an interrupt, and False."""
        at, plan = self.position, self._plan
        batches = epoch_batches(self._examples, plan.batch_size, seed=plan.seed, epoch=at.epoch)
        if at.done == len(batches):
            return True  # it was interrupted between its last step and its end
        chunk, end = self._source.chunk(batches, at.done, self._up_to(len(batches)))
        with compiling(self._bar, not self._steps.is_ready(chunk, self.state)):
            progress = self._steps.start(chunk, self.state, at.sums)
        while True:
            began, before = time.perf_counter(), at.done
            progress = self._steps(chunk, progress)
            self.state = progress.state
            at.done = end - (int(chunk.stop) - int(progress.next))
            at.sums = {name: float(value) for name, value in progress.sums.items()}
            finite = bool(progress.finite)
            steps, seconds = at.done - before, time.perf_counter() - began
            if finite:
                self._ask = max(1, int(steps / seconds * _CHUNK_SECONDS))
            at.skipped_in_a_row = 0 if steps > 1 or finite else at.skipped_in_a_row
            self._show(steps)
            if not finite:
                batch = self._steps.batch(
                    chunk, progress.next - 1, key=self.state.key, step=self.state.step - 1
                )
                self._skipped(batch, batches[at.done - 1])
            if at.done == len(batches):
                return True
            if self._interrupt.ended:
                at.ended = self._interrupt.ended
                return False
            self._save_if_due()
            if at.done == end:
                chunk, end = self._source.chunk(batches, at.done, self._up_to(len(batches)))
            else:
                chunk = chunk._replace(start=jnp.asarray(int(progress.next), jnp.int32))

    def _up_to(self, last: int) -> int:
        """Where the next call ends: in about a second, and where a checkpoint is due."""
        ask = self._ask
        if self._folder is not None and self._plan.save_steps is not None:
            ask = min(ask, self._plan.save_steps - (int(self.state.step) - self._saved_step))
        return min(last, self.position.done + ask)

    def _show(self, steps: int) -> None:
        means = self._means()
        shown = {"ELBO": f"{means.get('elbo', -means.get('loss', np.nan)):.2f}"}
        if means.get("divergent"):
            shown["divergent"] = f"{means['divergent']:.1%}"
        if self.position.skipped_in_all:
            shown["skipped"] = str(self.position.skipped_in_all)
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(steps)

    def _means(self) -> dict[str, float]:
        at = self.position
        moved = at.done - at.skipped
        return {name: value / moved if moved else np.nan for name, value in at.sums.items()}

    def _skipped(self, batch: Batch, indices: np.ndarray) -> None:
        """After a step whose update was left out: the model is still the one that met it."""
        at, state = self.position, self.state
        at.skipped += 1
        at.skipped_in_a_row += 1
        step = state.step - 1
        key = jax.random.fold_in(state.key, step)
        record = {
            "step": int(step),
            "epoch": at.epoch,
            **skipped_updates.describe(state.model, batch, key=key),
            "examples": indices.tolist(),
        }
        if self._folder is not None:
            self._folder.log_skipped(record)
        said = skipped_updates.message(record, in_a_row=at.skipped_in_a_row)
        if at.skipped_in_a_row >= self._plan.max_skipped:
            raise FloatingPointError(
                f"{said} The run stops here. {skipped_updates.advice(state.model)}"
            )
        self._shrink(_AFTER_SKIP)
        warn(SkippedUpdate, said)

    def _shrink(self, factor: float) -> None:
        """Shorter learned steps of the flow: the gradient of an update that is left out, or of
        draws that have diverged, does not ask for them."""
        smaller = copied(with_smaller_steps(self.state.model, factor))
        self.state = eqx.tree_at(lambda s: s.model, self.state, smaller)

    def _end_of_epoch(self) -> None:
        at, plan = self.position, self._plan
        metrics = {"epoch": at.epoch, "step": int(self.state.step), **self._means()}
        if at.skipped:
            metrics["skipped"] = at.skipped
        if self._validate is not None:
            metrics |= self._validate(self.state.model)
        self._look_at_the_clock()
        metrics["seconds"] = at.seconds
        bound = _bound(metrics)
        first = at.epoch == 1 and at.best_elbo == -np.inf
        if bound > at.best_elbo or self._validate is None or first:
            self.best, at.best_elbo, at.best_epoch = copied(self.state.model), bound, at.epoch
        if metrics.get("divergent", 0.0) > _DIVERGENT:
            self._shrink(_AFTER_DIVERGENCE)
            warn(
                DivergentTrajectories,
                f"{100 * metrics['divergent']:.3g}% of the trajectories of epoch {at.epoch} "
                "diverged. " + skipped_updates.divergence_advice(self.state.model),
            )
        elif metrics.get("validation_divergent", 0.0) > 0:
            self._shrink(_AFTER_ONE)
        at.history.append(metrics)
        at.epoch, at.done, at.sums, at.skipped = at.epoch + 1, 0, {}, 0
        if self._folder is not None:
            self._folder.log(metrics)
        stop = plan.callback is not None and plan.callback(
            Event(at.epoch - 1, metrics, copied(self.state.model))
        )
        if isinstance(stop, bool | np.bool_) and stop:
            at.ended = "callback"
        elif self._interrupt.ended:
            at.ended = self._interrupt.ended
        elif self._is_early_stop():
            at.ended = "early stop"

    def _is_early_stop(self) -> bool:
        at, patience = self.position, self._plan.patience
        return patience is not None and at.epoch - 1 - at.best_epoch >= patience

    def _save_if_due(self) -> None:
        plan = self._plan
        steps = int(self.state.step) - self._saved_step
        late = time.perf_counter() - self._saved_at >= plan.save_seconds
        if late or (plan.save_steps is not None and steps >= plan.save_steps):
            self.save()

    def save(self) -> None:
        """A checkpoint, and the best model for everybody to load."""
        self._look_at_the_clock()
        if self._folder is None:
            return
        at = self.position
        trees = {"state": self.state, "best": self.best}
        record = {"position": asdict(at), "identity": self._identity}
        step = int(self.state.step)
        try:
            self._folder.checkpoints.write(step, trees, record)
            if self.model is not self._exported:
                save(self.model, self._folder.model)
        except OSError as error:
            raise OSError(
                f"the checkpoint of step {step} could not be written: {error}. The run stops; the "
                "checkpoint before it stands, and resuming goes on from there."
            ) from error
        self._exported, self._saved_at, self._saved_step = self.model, time.perf_counter(), step

    def _look_at_the_clock(self) -> None:
        at, validate = self.position, self._validate
        at.seconds = time.perf_counter() - self._began
        at.compiling = self._compiled_before + self._steps.seconds_compiling
        at.compiling += validate.seconds_compiling if validate is not None else 0.0


def copied(tree: PyTree) -> PyTree:
    """The same with arrays of its own: the compiled loop consumes those that it is given."""
    return jax.tree.map(lambda leaf: jnp.array(leaf) if eqx.is_array(leaf) else leaf, tree)


def _bound(metrics: Mapping[str, float | int]) -> float:
    """What is watched: the validation bound of several draws, or the validation ELBO."""
    return metrics.get("validation_bound", metrics.get("validation_elbo", np.inf))


def _consumed(state: TrainState) -> bool:
    return any(leaf.is_deleted() for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array))
