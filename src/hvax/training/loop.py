"""The loop of a training run: compiled calls of about a second, and the work between them.

A checkpoint stores the `TrainState` and the `RunPosition`. The next step depends on nothing else,
so a resumed run repeats the uninterrupted one bit for bit.
"""

import time
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from tqdm import tqdm

from hvax.batch import Batch
from hvax.data.batches import epoch_batches
from hvax.exceptions import DivergentTrajectories, SkippedUpdate, warn
from hvax.progress import compiling
from hvax.storage.lock import FolderReplaced
from hvax.training import skipped_updates
from hvax.training.compiled_steps import CompiledSteps
from hvax.training.feed import AbstractFeed
from hvax.training.flow_start import with_smaller_steps
from hvax.training.interrupt import Interrupt
from hvax.training.options import Event, TrainingOptions
from hvax.training.position import RunPosition
from hvax.training.run_writer import RunWriter
from hvax.training.state import TrainState
from hvax.training.validation import Validation

# Target duration of one compiled call. Between calls the host updates the progress bar, saves and
# reacts to Ctrl-C; longer calls would delay these, shorter ones cost time per call.
_CHUNK_SECONDS = 1.0
_DIVERGENT = 0.01  # fraction of an epoch's trajectories from which divergence is warned of
# Factors for learned step sizes: after a skipped update, after an epoch with more than that
# fraction of diverged trajectories, and after an epoch with any diverged trajectory on validation
# data.
_AFTER_SKIP, _AFTER_DIVERGENCE, _AFTER_ANY = 0.5, 0.7, 0.8


class Loop:
    """A training run, from `position` to its end.

    `best` is the best model so far; `examples` the number of training examples, whose rows `feed`
    supplies. With `score_start` the given model competes with those of all epochs for the best.
    """

    def __init__(
        self,
        state: TrainState,
        best: PyTree,
        position: RunPosition,
        *,
        options: TrainingOptions,
        steps: CompiledSteps,
        examples: int,
        feed: AbstractFeed,
        validate: Validation | None,
        writer: RunWriter,
        interrupt: Interrupt,
        bar: tqdm,
        score_start: bool = False,
    ):
        self.state, self.best, self.position = state, best, position
        self._options, self._steps, self._validate = options, steps, validate
        self._examples, self._feed = examples, feed
        self._writer, self._interrupt, self._bar = writer, interrupt, bar
        self._score_start = score_start
        self._steps_per_call = 1  # adapted to _CHUNK_SECONDS after each call
        self._began = time.perf_counter() - position.seconds
        self._compiled_before = position.compiling

    @property
    def model(self) -> PyTree:
        """The model with the best validation ELBO; the last one if none was scored."""
        compared = self._validate is not None and self.position.best_elbo > -np.inf
        return self.best if compared else self.state.model

    def run(self) -> None:
        """Train until the last epoch, an early stop, an interrupt or a callback ends the run."""
        position, options = self.position, self._options
        position.ended = "early stop" if self._is_early_stop() else ""
        try:
            if self._score_start and self._validate is not None and int(self.state.step) == 0:
                position.best_elbo = _bound(self._validate(self.state.model))
            while position.epoch <= options.epochs and not position.ended:
                if self._epoch():
                    self._end_of_epoch()
                    self._save_if_due()
            position.ended = position.ended or "finished"
            self.save()
        except Exception as error:
            # An error of the data or of a callback must not lose the steps that are done. After an
            # error inside the compiled call nothing can be saved: it has consumed the state.
            if not _is_donated(self.state):
                try:
                    self.save()
                except (OSError, FolderReplaced) as failure:
                    error.add_note(str(failure))
            raise

    def _epoch(self) -> bool:
        """Train to the end of the current epoch and return True; False after an interrupt."""
        position, options = self.position, self._options
        batches = epoch_batches(
            self._examples, options.batch_size, seed=options.seed, epoch=position.epoch
        )
        if position.done == len(batches):
            return True  # the run was interrupted between the epoch's last step and its end
        chunk, end = self._feed.chunk(batches, position.done, self._end_of_call(len(batches)))
        with compiling(self._bar, not self._steps.is_ready(chunk, self.state)):
            progress = self._steps.start(chunk, self.state, position.sums)
        while True:
            began, before = time.perf_counter(), position.done
            progress = self._steps(chunk, progress)
            self.state = progress.state
            # A call ends early after a skipped update: `next` says how far it came.
            position.done = end - (int(chunk.stop) - int(progress.next))
            position.sums = {name: float(value) for name, value in progress.sums.items()}
            finite = bool(progress.finite)
            steps, seconds = position.done - before, time.perf_counter() - began
            if finite:
                self._steps_per_call = max(1, int(steps / seconds * _CHUNK_SECONDS))
            position.skipped_in_a_row = 0 if steps > 1 or finite else position.skipped_in_a_row
            self._show(steps)
            if not finite:
                batch = self._steps.batch(
                    chunk, progress.next - 1, key=self.state.key, step=self.state.step - 1
                )
                self._skipped(batch, batches[position.done - 1])
            if position.done == len(batches):
                return True
            if self._interrupt.ended:
                position.ended = self._interrupt.ended
                return False
            self._save_if_due()
            if position.done == end:
                chunk, end = self._feed.chunk(
                    batches, position.done, self._end_of_call(len(batches))
                )
            else:  # the rest of the same rows, which are on the device already
                chunk = chunk._replace(start=jnp.asarray(int(progress.next), jnp.int32))

    def _end_of_call(self, last: int) -> int:
        """The batch before which the next call ends: by time, and where a checkpoint is due."""
        due = self._writer.steps_until_due(int(self.state.step))
        steps = self._steps_per_call if due is None else min(self._steps_per_call, due)
        return min(last, self.position.done + steps)

    def _show(self, steps: int) -> None:
        """Advance the progress bar by `steps`, with the epoch's means so far."""
        means = self._means()
        shown = {"ELBO": f"{means.get('elbo', -means.get('loss', np.nan)):.2f}"}
        if means.get("divergent"):
            shown["divergent"] = f"{means['divergent']:.1%}"
        if self.position.skipped_in_all:
            shown["skipped"] = str(self.position.skipped_in_all)
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(steps)

    def _means(self) -> dict[str, float]:
        """Means over the epoch's steps of what they reported."""
        position = self.position
        used = position.done - position.skipped  # the sums leave skipped steps out
        return {name: value / used if used else np.nan for name, value in position.sums.items()}

    def _skipped(self, batch: Batch, indices: np.ndarray) -> None:
        """Log a skipped update, shrink the step sizes and warn; raise after too many in a row."""
        # The model is still the one before the step, so the step can be examined on its own noise.
        position, state = self.position, self.state
        position.skipped += 1
        position.skipped_in_a_row += 1
        step = state.step - 1
        key = jax.random.fold_in(state.key, step)
        record = {
            "step": int(step),
            "epoch": position.epoch,
            **skipped_updates.describe(state.model, batch, key=key),
            "examples": indices.tolist(),
        }
        self._writer.log_skipped(record)
        message = skipped_updates.message(record, in_a_row=position.skipped_in_a_row)
        if position.skipped_in_a_row >= self._options.max_skipped:
            raise FloatingPointError(
                f"{message} The run stops here. {skipped_updates.advice(state.model)}"
            )
        self._shrink(_AFTER_SKIP)
        warn(SkippedUpdate, message)

    def _shrink(self, factor: float) -> None:
        """Multiply the learned step sizes of the flow by `factor`."""
        # The optimizer does not shrink them: a skipped update has no gradient, and the gradient of
        # a diverged draw is clipped or 0.
        smaller = copied(with_smaller_steps(self.state.model, factor))
        self.state = eqx.tree_at(lambda s: s.model, self.state, smaller)

    def _end_of_epoch(self) -> None:
        """Validate, keep the best model, log, call the callback, and decide whether to go on."""
        position, options = self.position, self._options
        metrics = {"epoch": position.epoch, "step": int(self.state.step), **self._means()}
        if position.skipped:
            metrics["skipped"] = position.skipped
        if self._validate is not None:
            metrics |= self._validate(self.state.model)
        self._update_times()
        metrics["seconds"] = position.seconds
        bound = _bound(metrics)
        first = position.epoch == 1 and position.best_elbo == -np.inf
        if bound > position.best_elbo or self._validate is None or first:
            self.best = copied(self.state.model)
            position.best_elbo, position.best_epoch = bound, position.epoch
        if metrics.get("divergent", 0.0) > _DIVERGENT:
            self._shrink(_AFTER_DIVERGENCE)
            warn(
                DivergentTrajectories,
                f"{100 * metrics['divergent']:.3g}% of the trajectories of epoch {position.epoch} "
                "diverged. " + skipped_updates.divergence_advice(self.state.model),
            )
        elif metrics.get("validation_divergent", 0.0) > 0:
            self._shrink(_AFTER_ANY)
        position.history.append(metrics)
        position.epoch += 1
        position.done, position.sums, position.skipped = 0, {}, 0
        self._writer.log(metrics)
        stop = options.callback is not None and options.callback(
            Event(position.epoch - 1, metrics, copied(self.state.model))
        )
        if isinstance(stop, bool | np.bool_) and stop:
            position.ended = "callback"
        elif self._interrupt.ended:
            position.ended = self._interrupt.ended
        elif self._is_early_stop():
            position.ended = "early stop"

    def _is_early_stop(self) -> bool:
        position, patience = self.position, self._options.patience
        return patience is not None and position.epoch - 1 - position.best_epoch >= patience

    def _save_if_due(self) -> None:
        if self._writer.is_due(int(self.state.step)):
            self.save()

    def save(self) -> None:
        """Write a checkpoint, and the best model (`hvax.load` reads it). Raises `OSError`."""
        self._update_times()
        self._writer.save(self.state, best=self.best, position=self.position, model=self.model)

    def _update_times(self) -> None:
        position, validate = self.position, self._validate
        position.seconds = time.perf_counter() - self._began
        position.compiling = self._compiled_before + self._steps.seconds_compiling
        position.compiling += validate.seconds_compiling if validate is not None else 0.0


def copied(tree: PyTree) -> PyTree:
    """A copy with new buffers: the compiled loop donates, and so destroys, those it is given."""
    return jax.tree.map(lambda leaf: jnp.array(leaf) if eqx.is_array(leaf) else leaf, tree)


def _bound(metrics: Mapping[str, float | int]) -> float:
    """The number that selects the best model: validation bound of several draws, or ELBO."""
    return metrics.get("validation_bound", metrics.get("validation_elbo", np.inf))


def _is_donated(state: TrainState) -> bool:
    """Whether the buffers of a state were given away to a compiled call."""
    return any(leaf.is_deleted() for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array))
