"""The batch that training steps, objectives and evaluations take."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Batch(NamedTuple):
    """Some examples: arrays with the batch axis first; None for a part that is not given.

    A `Batch` is a pytree: `jax.tree.map(f, batch)` applies `f` to each array in it. A whole data
    set is a `Batch` too, with `Examples` in place of arrays.
    """

    x: Any
    """The encoder's input."""
    target: Any = None
    """The data that the likelihood scores; None stands for x."""
    condition: Any = None
    """(n, ...) of any shape, one for each example: what encoder and decoder are given beside x and
    z, and what is not scored. The model is p(x | condition)."""
    mask: Any = None
    """Booleans of x's shape (and target's), True where an entry is observed, which alone is scored;
    None means all of them are, or in a data set that NaN in x is missing."""

    @property
    def scored(self) -> Any:
        """The data that the likelihood scores: `target`, or x if there is no target."""
        return self.x if self.target is None else self.target

    def with_scored(self, scored: Any) -> "Batch":
        """A copy with other scored data: replaces `target`, or x if there is no target."""
        if self.target is None:
            return self._replace(x=scored)
        return self._replace(target=scored)

    def given(self) -> dict[str, Any]:
        """Condition and mask, if not None, as keyword arguments for a model's methods."""
        named = {"condition": self.condition, "mask": self.mask}
        return {name: value for name, value in named.items() if value is not None}

    def parts(self) -> list[Any]:
        """The parts that are not None, in order."""
        return [part for part in self if part is not None]

    def map(self, function: Callable[[Any], Any]) -> "Batch":
        """Apply `function` to each part that is not None."""
        return Batch(*(None if part is None else function(part) for part in self))
