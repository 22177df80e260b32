"""Default epochs, batch size and patience for a number of examples, and when the flow starts."""

import math
from typing import NamedTuple

from hvax.checks import count
from hvax.wording import named

_BATCH, _LARGE_BATCH, _LARGE = 100, 500, 1_000_000
_UPDATES, _MOST_EPOCHS, _FEWEST_EPOCHS = 20_000, 1000, 5
# A network memorizes a few dozen rows, and as few validation rows would not reveal it.
_UPDATES_PER_EXAMPLE = 40
_PATIENCE_UPDATES, _PATIENCE_EPOCHS = 1000, 10
_UPDATES_WITH_FLOW = 400  # for its own parameters to settle and the networks to adapt to it


class Schedule(NamedTuple):
    """The length of a training run."""

    epochs: int  # at most
    batch_size: int
    patience: int | None  # stop after so many epochs without a better validation bound; None: never


def schedule(
    examples: int,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    patience: int | None = None,
    validated: bool = True,
) -> Schedule:
    """The given numbers, with defaults for a number of training examples in place of None.

    - `batch_size`: a tenth of the data, between 8 and 100 (500 from a million examples on).
    - `epochs`: about 20,000 updates, or 40 per example if that is less, between 5 and 1,000 epochs.
    - `patience`: about 1,000 updates, at least 10 epochs, if the run is `validated`; 0 means never.

    Raises `TypeError` for a number that is no integer, `ValueError` for one out of range.
    """
    for name, number in (("epochs", epochs), ("batch_size", batch_size)):
        if number is not None:
            count(number, name)
    if patience is not None:
        count(patience, "patience", least=0)
    if batch_size is None:
        most = _LARGE_BATCH if examples >= _LARGE else _BATCH
        batch_size = min(most, max(8, examples // 10), examples)
    updates = max(1, examples // max(1, batch_size))
    # By updates, not epochs: what a network needs hardly depends on the data's size.
    if epochs is None:
        due = min(_UPDATES, _UPDATES_PER_EXAMPLE * examples)
        epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, math.ceil(due / updates)))
    if patience is None and validated:
        patience = max(_PATIENCE_EPOCHS, math.ceil(_PATIENCE_UPDATES / updates))
    return Schedule(epochs, batch_size, patience or None)


def first_epoch_with_flow(
    examples: int, *, epochs: int, batch_size: int, gradients: int, given: int | None = None
) -> int:
    """The epoch, from 1, that turns the flow on: `given`, or so that it has a quarter of the time.

    Raises `ValueError` for an epoch that never comes. `gradients` are those of U per draw.
    """
    if given is None:
        updates = max(1, examples // max(1, batch_size))
        given = 1 + max(0, epochs - epochs_with_flow(epochs, gradients, updates))
    if count(given, named("flow_from_epoch")) > count(epochs, named("epochs")):
        raise ValueError(
            f"{named('flow_from_epoch')} must be at most {named('epochs')}, {epochs}, got {given}."
        )
    return given


def epochs_with_flow(epochs: int, gradients: int, updates: int) -> int:
    """How many of the epochs, of `updates` each, train with the flow by default.

    About a quarter of the time; but at least 400 updates, and at most a quarter of the epochs.
    `gradients` is the number of gradients of U per draw.
    """
    # Measured: an update through n gradients takes 1 + 3n/4 times one of the plain VAE. With a
    # share s of the epochs, s (1 + 3n/4) = (1 - s) / 3 gives s = 1 / (4 + 9n/4).
    quarter_of_time = epochs / (4 + 9 * gradients / 4)
    return math.ceil(min(epochs / 4, max(quarter_of_time, _UPDATES_WITH_FLOW / updates)))
