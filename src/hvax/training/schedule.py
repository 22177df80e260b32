"""How long to train, on data of a size: epochs, batch size, patience, and when a flow comes."""

import math
from typing import NamedTuple

from hvax.checks import count

_BATCH, _LARGE_BATCH, _LARGE = 100, 500, 1_000_000
_UPDATES, _MOST_EPOCHS, _FEWEST_EPOCHS = 20_000, 1000, 5
# A network learns a few dozen rows by heart, and as few to validate on do not notice it.
_UPDATES_PER_EXAMPLE = 40
_PATIENCE_UPDATES, _PATIENCE_EPOCHS = 1000, 10
_UPDATES_WITH_FLOW = 400  # what its own numbers need to settle, and the networks to follow


class Schedule(NamedTuple):
    """What a training run does in all: at most so many epochs of so large batches."""

    epochs: int
    batch_size: int
    patience: int | None  # epochs without a better validation bound; None never stops early


def schedule(
    examples: int,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    patience: int | None = None,
    validated: bool = True,
) -> Schedule:
    """The numbers that are given, and for the others those that suit so many training examples.

    Batches of a tenth of the data, between 8 and 100 (500 from a million examples on); epochs for
    about 20,000 updates, or 40 an example where those are fewer, between 5 and 1,000; patience of
    about 1,000 updates, at least 10 epochs, where there are validation data. `patience=0` never
    stops early. Raises `TypeError` for what is no integer, `ValueError` for one out of range.
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
    if epochs is None:
        due = min(_UPDATES, _UPDATES_PER_EXAMPLE * examples)
        epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, math.ceil(due / updates)))
    if patience is None and validated:
        patience = max(_PATIENCE_EPOCHS, math.ceil(_PATIENCE_UPDATES / updates))
    return Schedule(epochs, batch_size, patience or None)


def epochs_with_flow(epochs: int, gradients: int, updates: int) -> int:
    """How many of the epochs, of so many updates each, have the flow by default.

    As many as take about a quarter of the time: an update through n gradients takes 1 + 3n/4 times
    one of the plain VAE. Where these are few updates, more, up to a quarter of the epochs.
    """
    quarter_of_time = epochs / (4 + 9 * gradients / 4)
    return math.ceil(min(epochs / 4, max(quarter_of_time, _UPDATES_WITH_FLOW / updates)))
