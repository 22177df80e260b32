"""How long and by what a model is trained, and how it is scored: the options of one training."""

from dataclasses import dataclass
from typing import Any, get_args

import optax

from hvax.checked_data import checked_data, checked_training_data
from hvax.checks import check_one_of, count
from hvax.models.vae import VAE
from hvax.objectives import Estimator
from hvax.pipeline.parts import Parts
from hvax.training.optimizers import default_optimizer
from hvax.training.options import TrainingOptions
from hvax.training.schedule import first_epoch_with_flow, schedule
from hvax.wording import named


@dataclass(frozen=True)
class Settings:
    """The numbers of one training, all of them chosen; `settings_for` chooses those that are not
    given."""

    epochs: int
    batch_size: int
    patience: int
    """Epochs without a better validation bound; 0 never stops early."""
    flow_from_epoch: int = 1
    """The epoch, from 1, in which the flow is turned on; 1 without a flow."""
    optimizer: optax.GradientTransformation | None = None
    """None is that of `fit`."""
    train_samples: int = 1
    """Draws per example in training."""
    estimator: Estimator = "standard"
    num_samples: int = 500
    """Importance samples per data point of the final NLL."""
    test_points: int = 1000
    """Test points in the final table, at most; evenly spaced."""
    seed: int = 0
    save_seconds: float = 60.0
    max_skipped: int = 10

    def plan(self) -> dict[str, Any]:
        """The arguments of `TrainingOptions`, which `fit` has too."""
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "patience": self.patience or None,
            "save_seconds": self.save_seconds,
            "max_skipped": self.max_skipped,
            "seed": self.seed,
        }

    def arguments(self) -> dict[str, Any]:
        """The arguments of `fit` that any part of the training has."""
        return {
            **self.plan(),
            "patience": self.patience,
            "optimizer": default_optimizer() if self.optimizer is None else self.optimizer,
            "train_samples": self.train_samples,
            "loss_kwargs": {"estimator": self.estimator},
            "prepare": False,  # `build_vae` has done so where it is asked for
        }

    def check(self, vae: VAE, parts: Parts) -> None:
        """Refuse, before any work, numbers out of range and data that do not suit the model. Raises
        as `fit` does."""
        check_one_of(self.estimator, named("estimator"), get_args(Estimator))
        options = TrainingOptions(**self.plan())
        options.check_for(*checked_training_data(vae, parts.train, parts.validation))
        checked_data(vae, parts.test, "test")
        for name in ("num_samples", "test_points", "train_samples"):
            count(getattr(self, name), named(name))


def settings_for(
    examples: int,
    *,
    gradients: int,
    epochs: int | None = None,
    batch_size: int | None = None,
    patience: int | None = None,
    flow_from_epoch: int | None = None,
    trained: bool = False,
    **others: Any,
) -> Settings:
    """The settings that are given, and for the others those that suit so many training examples.

    `gradients` are those of the potential in one pass of the flow, 0 without a flow; `trained` says
    that the networks come trained. See `schedule` and `first_epoch_with_flow`.
    """
    chosen = schedule(examples, epochs=epochs, batch_size=batch_size, patience=patience)
    first = 1
    if gradients > 0:
        first = first_epoch_with_flow(
            examples,
            epochs=chosen.epochs,
            batch_size=chosen.batch_size,
            gradients=gradients,
            given=1 if trained and flow_from_epoch is None else flow_from_epoch,
        )
    return Settings(
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        patience=chosen.patience or 0,
        flow_from_epoch=first,
        **others,
    )
