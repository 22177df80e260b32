"""A batch: what a training step, an objective or an evaluation gets of some examples."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Batch(NamedTuple):
    """Some examples: arrays with the batch axis first, or None for what is not given.

    It is a pytree: `jax.tree.map(f, batch)` applies `f` to each array that is there. A data set as
    a whole is a `Batch` too, of `Examples` in place of arrays.
    """

    x: Any
    """What the encoder sees."""
    target: Any = None
    """What the likelihood scores; None is x itself."""
    condition: Any = None
    """What every part of the model may depend on, and no part scores: p(x | condition)."""
    mask: Any = None
    """Which entries of the target are observed, True for yes; None is all of them."""

    @property
    def scored(self) -> Any:
        """The target: x where there is no other."""
        return self.x if self.target is None else self.target

    def with_scored(self, scored: Any) -> "Batch":
        """The same with other numbers to score: another x where there is no target beside it."""
        if self.target is None:
            return self._replace(x=scored)
        return self._replace(target=scored)

    def given(self) -> dict[str, Any]:
        """Condition and mask as keyword arguments of a model's methods, where they are given."""
        named = {"condition": self.condition, "mask": self.mask}
        return {name: value for name, value in named.items() if value is not None}

    def parts(self) -> list[Any]:
        """What is given, in order."""
        return [part for part in self if part is not None]

    def map(self, function: Callable[[Any], Any]) -> "Batch":
        """`function` of each part that is given, whatever the parts are."""
        return Batch(*(None if part is None else function(part) for part in self))
