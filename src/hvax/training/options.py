"""The options of a training, and the event that its callback gets."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import optax
from jaxtyping import PyTree

from hvax.batch import Batch
from hvax.checks import check_callable, count, real_number
from hvax.training.compiled_steps import LossKwargs, Transform
from hvax.training.state import LossFunction


class Event(NamedTuple):
    """The argument of a callback, at the end of an epoch."""

    epoch: int  # counted from 1
    metrics: dict[str, float | int]
    model: PyTree


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The arguments of `fit` that every phase of a training has; `fit` explains them.

    Raises `ValueError` and `TypeError` for numbers out of range and functions that are not
    callable.
    """

    batch_size: int
    epochs: int
    seed: int
    max_skipped: int
    save_seconds: float
    save_steps: int | None = None
    patience: int | None = None
    callback: Callable[[Event], Any] | None = None
    optimizer: optax.GradientTransformation | None = None
    train_samples: int = 1
    loss_function: LossFunction | None = None
    loss_kwargs: LossKwargs | None = None
    transform: Transform | None = None
    progress: bool = True
    resume: bool = False
    handle_signals: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "max_skipped", "train_samples"):
            count(getattr(self, name), name)
        for name in ("save_steps", "patience"):
            if getattr(self, name) is not None:
                count(getattr(self, name), name)
        count(self.seed, "seed", least=0)
        if not real_number(self.save_seconds, "save_seconds") > 0:
            raise ValueError(f"save_seconds must be > 0, got {self.save_seconds}.")
        for name in ("callback", "loss_function", "transform"):
            if getattr(self, name) is not None:
                check_callable(getattr(self, name), name)

    def check_for(self, data: Batch, held_out: Batch | None) -> None:
        """Raise `ValueError` if a run on these data cannot follow the options."""
        if self.batch_size > len(data.x):
            raise ValueError(
                f"batch_size must be at most the number of examples, {len(data.x)}, "
                f"got {self.batch_size}."
            )
        if self.patience is not None and held_out is None:
            raise ValueError("patience needs validation data to watch.")

    def with_epochs(self, epochs: int) -> "TrainingOptions":
        """The same options with another number of epochs."""
        return replace(self, epochs=epochs)

    def after_epochs(self, done: int, epochs: int) -> "TrainingOptions":
        """The same options for `epochs` epochs after `done` earlier ones; callbacks count all."""
        if (callback := self.callback) is None:
            return self.with_epochs(epochs)

        def renumbered(event: Event) -> Any:
            epoch = event.epoch + done
            return callback(event._replace(epoch=epoch, metrics=event.metrics | {"epoch": epoch}))

        return replace(self, epochs=epochs, callback=renumbered)
