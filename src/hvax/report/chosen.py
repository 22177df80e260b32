"""Which of many examples, features or channels are shown."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def spaced(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the indices 0 ... count - 1, evenly spaced, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def one_of_each(labels: NDArray[Any] | None, count: int, most: int) -> NDArray[np.int64]:
    """Indices of a few points: of different labels where there are labels, else evenly spaced."""
    if labels is None:
        return spaced(count, most)
    _, first = np.unique(labels, return_index=True)
    chosen = first[spaced(len(first), most)].astype(np.int64)
    others = np.setdiff1d(np.arange(count), chosen)
    lacking = min(most - len(chosen), len(others))
    more = others[np.linspace(0, len(others) - 1, lacking + 2)[1:-1].astype(np.int64)]
    return np.append(chosen, more) if lacking else chosen
