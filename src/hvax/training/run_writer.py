"""What a training run writes into its folder while it runs: logs, checkpoints, the best model."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from jaxtyping import PyTree

from hvax.storage.run_folder import RunFolder
from hvax.storage.structure import save
from hvax.training.options import TrainingOptions
from hvax.training.position import RunPosition
from hvax.training.state import TrainState


class RunWriter:
    """Writes into `folder`; without one (None) every method does nothing.

    `identity` is stored in each checkpoint: what a resumed run must have in common with this one.
    `step` is that of the latest checkpoint, 0 before the first.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        identity: Mapping[str, Any],
        options: TrainingOptions,
        *,
        step: int,
    ):
        self._folder, self._identity, self._options = folder, identity, options
        self._saved_at, self._saved_step = time.perf_counter(), step
        self._exported: PyTree = None  # the model that is in the folder

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Log the metrics of an epoch."""
        if self._folder is not None:
            self._folder.log(metrics)

    def log_skipped(self, record: Mapping[str, Any]) -> None:
        """Log a skipped update."""
        if self._folder is not None:
            self._folder.log_skipped(record)

    def steps_until_due(self, step: int) -> int | None:
        """The steps from `step` to the next checkpoint that `save_steps` asks for; None if none."""
        if self._folder is None or self._options.save_steps is None:
            return None
        return self._options.save_steps - (step - self._saved_step)

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due at `step`, by time or by the number of steps."""
        if self._folder is None:
            return False
        left = self.steps_until_due(step)
        late = time.perf_counter() - self._saved_at >= self._options.save_seconds
        return late or (left is not None and left <= 0)

    def save(
        self, state: TrainState, *, best: PyTree, position: RunPosition, model: PyTree
    ) -> None:
        """Write a checkpoint, and `model`, the best so far, for `hvax.load`. Raises `OSError`."""
        if self._folder is None:
            return
        step = int(state.step)
        record = {"position": asdict(position), "identity": self._identity}
        try:
            self._folder.checkpoints.write(step, {"state": state, "best": best}, record)
            if model is not self._exported:
                save(model, self._folder.model)
        except OSError as error:
            raise OSError(
                f"the checkpoint of step {step} could not be written: {error}. The run stops; it "
                "can be resumed from the checkpoint before, which is intact."
            ) from error
        self._exported, self._saved_at, self._saved_step = model, time.perf_counter(), step
