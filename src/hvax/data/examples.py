"""Data sets for training and evaluation: rows of stored arrays, scaled when they are read."""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.data.check import check_array, check_examples
from hvax.data.claims import require_whole
from hvax.data.convert import to_array
from hvax.data.masks import with_mask

_CHECKED_ROWS = 4096  # checked at a time, since data may be larger than memory


@dataclass(frozen=True, eq=False)
class Examples:
    """The rows `index` of the array `stored`, divided by `scale` when they are read.

    **Arguments:**

    - `stored`: an array (n, *x_shape), kept as it is: uint8, say, or memory-mapped and larger than
      memory.
    - `index`: indices of rows; None is all.
    - `scale`: a finite number > 0, such as 255 for gray levels.
    - `origin`: of x_shape: a model's origin, subtracted in float64 (see `VAE.origin`).
    - `names`: the names of the features, for messages.
    - `holes`: whether NaN stands for a missing value. Rows as a model takes them have 0 there, and
      `observed` is the mask that goes with them.
    - `is_mask`: whether rows are read as booleans, True where the stored number is not NaN.

    Raises `TypeError` for what is no NumPy array of real numbers, and `ValueError` for a scale out
    of range.
    """

    stored: NDArray[Any]
    index: NDArray[np.int64] | None = None
    scale: float = 1.0
    origin: NDArray[np.float64] | None = None
    names: tuple[str, ...] | None = None
    holes: bool = False
    is_mask: bool = False

    def __post_init__(self) -> None:
        check_array(self.stored, "stored")
        if isinstance(self.scale, bool) or not isinstance(self.scale, numbers.Real):
            raise TypeError(f"scale must be a number, got {self.scale!r}.")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be finite and > 0, got {self.scale}.")

    def __len__(self) -> int:
        return len(self.stored if self.index is None else self.index)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.stored.shape[1:]

    @property
    def nbytes(self) -> int:
        """The size of all rows in bytes, as stored."""
        return len(self) * math.prod(self.x_shape) * self.stored.dtype.itemsize

    def rows(self, which: NDArray[np.integer[Any]] | slice) -> NDArray[Any]:
        """Rows `which` as stored, less the origin, but not divided by `scale`.

        The compiled training loop divides on the device: uint8 rows are a quarter of the transfer.
        """
        return self._filled(self._rows(which))

    def _rows(self, which: NDArray[np.integer[Any]] | slice) -> NDArray[Any]:
        """`rows`, but NaN where a value is missing."""
        rows = self._stored(which)
        return rows if self.origin is None else rows - self.origin * self.scale

    def _filled(self, rows: NDArray[Any]) -> NDArray[Any]:
        # After the origin was subtracted: a missing value is 0 to the model.
        return np.where(np.isnan(rows), np.zeros((), rows.dtype), rows) if self.holes else rows

    def observed(self) -> "Examples":
        """The mask of the same rows: True where a value is not missing."""
        return replace(self, scale=1.0, origin=None, holes=False, is_mask=True)

    def seen(self, which: NDArray[np.integer[Any]] | slice) -> NDArray[Any]:
        """Rows `which` as a model takes them: divided by `scale`, less the origin."""
        rows = self.rows(which)
        return rows if self.scale == 1 else (rows / self.scale).astype(np.float32)

    def __getitem__(self, which: NDArray[np.integer[Any]] | slice) -> NDArray[Any]:
        """Rows `which` divided by `scale`, the origin not subtracted; missing values are NaN."""
        rows = self._stored(which)
        return rows if self.scale == 1 else (rows / self.scale).astype(np.float32)

    def spaced(self, most: int) -> NDArray[Any]:
        """At most `most` evenly spaced rows as a model takes them, but in the stored precision.

        Evenly spaced, not the first ones, because files are often sorted. Missing values are NaN.
        """
        n = len(self)
        rows = self._rows(np.unique(np.linspace(0, n - 1, min(most, n)).astype(np.int64)))
        return rows if self.scale == 1 else rows / self.scale

    def _stored(self, which: NDArray[np.integer[Any]] | slice) -> NDArray[Any]:
        if self.index is not None:
            which = self.index[which]
        require_whole(self.stored)
        rows = np.asarray(self.stored[which])
        if self.is_mask:
            return ~np.isnan(rows)
        return rows if rows.dtype.isnative else rows.astype(rows.dtype.newbyteorder("="))


def chosen_rows(n: int, most: int) -> NDArray[np.int64]:
    """`most` of n indices, evenly spaced."""
    return np.linspace(0, n - 1, most).round().astype(np.int64)


def subsample(examples: Examples, max_examples: int) -> Examples:
    """At most so many examples, evenly spaced, because files are often sorted."""
    if len(examples) <= max_examples:
        return examples
    chosen = chosen_rows(len(examples), max_examples)
    index = chosen if examples.index is None else examples.index[chosen]
    return replace(examples, index=index)


def as_examples(data: Any, name: str = "data") -> Examples:
    """`data` if it is `Examples`, else an array or data frame as checked `Examples`.

    Raises what `to_array` and `check_examples` raise.
    """
    if isinstance(data, Examples):
        if len(data) == 0:
            raise ValueError(f"{name} must have at least one example, got none.")
        return data
    array, names = to_array(data, name)
    holes = check_examples(array, name)
    return Examples(array, names=names, holes=holes)


def as_data(
    data: Any,
    name: str,
    *,
    check: Callable[..., None],
    origin: NDArray[np.float64] | None = None,
) -> Batch:
    """A data set as a `Batch` of `Examples`, checked.

    `data` is an array, a pair (x, target), or a `Batch` of arrays or `Examples`. NaN in x is a
    missing value, of which the result's mask tells; so is what a `Batch`'s own mask hides. `check`
    is called with the rows to be scored, scaled and less `origin`, and their mask if there is one,
    a few thousand at a time.

    Raises what `as_examples` and `check` raise, and `ValueError` if the parts do not match.
    """
    of_pair = isinstance(data, tuple) and not isinstance(data, Batch)
    if not isinstance(data, Batch):
        pair = data if isinstance(data, tuple) else (data,)
        if len(pair) not in (1, 2):
            raise ValueError(
                f"{name} must be an array, a pair (x, target) or a Batch, got {len(pair)} parts."
            )
        data = Batch(*pair)
    if data.x is None:
        raise TypeError(f"{name} must be an array, a pair (x, target) or a Batch, got no x.")
    parts = Batch(
        *(
            None if part is None else _as_part(part, name, field, of_pair=of_pair)
            for field, part in data._asdict().items()
        )
    )
    _check_parts(parts, name)
    parts = with_origin(with_mask(parts, name), origin)
    if not jax.config.read("jax_enable_x64"):
        parts.map(lambda part: _check_narrow(part, name))
    for start in range(0, len(parts.scored), _CHECKED_ROWS):
        some = slice(start, start + _CHECKED_ROWS)
        mask = () if parts.mask is None else (parts.mask.rows(some),)
        try:
            check(parts.scored.seen(some), *mask)
        except ValueError as error:
            if start == 0:
                raise
            raise ValueError(
                f"{error} This index counts from example {start} of {name}."
            ) from error
    return parts


def _as_part(part: Any, name: str, field: str, *, of_pair: bool) -> Examples:
    """`as_examples` of one part of a data set, which messages name."""
    if field == "x":
        return as_examples(part, name)
    try:
        return as_examples(part, f"the {field} of {name}")
    except TypeError as error:
        if not of_pair:
            raise
        raise TypeError(
            f"{error} It is the second of the pair `{name}`: a pair is (x, target), of which x is "
            "encoded and target is scored. Labels have no place in it: give x alone."
        ) from error


def _check_parts(parts: Batch, name: str) -> None:
    for field, part in parts._asdict().items():
        if part is not None and len(part) != len(parts.x):
            raise ValueError(
                f"{name} must have a {field} for each example, got {len(part)} for "
                f"{len(parts.x)} examples. Give both the same rows."
            )
    target = parts.target
    if target is not None and parts.x.x_shape and not target.x_shape:
        raise ValueError(
            f"{name} must be (x, target) if it is a pair, with a target that is scored, got one "
            f"{target.stored.dtype} per example, which looks like labels. Give x alone."
        )


def scored_rows(data: Batch | Examples, most: int) -> NDArray[Any]:
    """At most `most` evenly spaced rows of what is scored, as a model takes it; NaN where hidden.

    In the stored precision; integers with hidden values become float64.
    """
    if isinstance(data, Examples):
        return data.spaced(most)
    rows = data.scored.spaced(most)
    if data.mask is None or data.mask.is_mask:
        return rows
    mask = data.mask.spaced(most)
    if mask.all():
        return rows
    return np.where(mask, rows, np.array(np.nan, np.promote_types(rows.dtype, np.float32)))


def with_origin(parts: Batch, origin: NDArray[np.float64] | None) -> Batch:
    """The same data set with `origin` subtracted from the scored part when rows are read."""
    # Examples of the wrong shape are refused later, with a better message.
    fits = origin is not None and origin.shape == parts.scored.x_shape
    plain = parts.map(lambda part: replace(part, origin=None))
    return plain.with_scored(replace(parts.scored, origin=origin if fits else None))


def feature_name(part: Examples, index: tuple[int, ...]) -> str:
    """The name of a feature for messages; "feature 3" if it has none."""
    if part.names is not None and len(index) == 1:
        return repr(part.names[index[0]])
    return f"feature {', '.join(map(str, index))}"


def _check_narrow(part: Examples, name: str) -> None:
    """Raise `ValueError` for numbers that would overflow in 32 bits."""
    kind = part.rows(slice(0, 1)).dtype
    if kind.itemsize < 4 or kind in (np.int32, np.float32):
        return
    limit = np.finfo(np.float32).max if kind.kind == "f" else np.iinfo(np.int32).max
    for start in range(0, len(part), _CHECKED_ROWS):
        largest = np.abs(part.rows(slice(start, start + _CHECKED_ROWS)).astype(np.float64)).max()
        if largest > limit:
            raise ValueError(
                f"{name} must have numbers of at most {limit:g} in 32-bit mode, got {largest:g}. "
                "Scale the data, or switch on 64 bits with jax_enable_x64 (--x64)."
            )
