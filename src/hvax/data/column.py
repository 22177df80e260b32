"""One column of a table's schema: its kind, and what its cells were when it was inferred."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hvax.data.column_cells import Content, Scalar

Kind = Literal["real", "positive", "binary", "category", "count", "ignored", "label", "condition"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MODELED = ("real", "positive", "binary", "category", "count")
"""The kinds that are modeled: the others are not part of the matrix of `Table.encode`."""

_SHOWN = 5  # categories that a message lists


@dataclass(frozen=True)
class Column:
    """A column of a `Table`.

    - `kind`: how it is modeled.
    - `content`: what its cells hold: "number", "boolean", "text", "date" or "other".
    - `dtype`, `native`: its type by narwhals' name and in its own library.
    - `missing`: the number of rows without a value.
    - `values`: its distinct values in order, if they are few; a category's classes.
    - `minimum`, `maximum`, `mean`, `sd`: of the numbers that are there; None for text.
    - `whole`: whether all its numbers are integers.
    - `note`: why it has this kind, where that is not obvious.
    """

    name: str
    kind: Kind
    content: Content
    dtype: str
    native: str = ""
    missing: int = 0
    values: tuple[Scalar, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    sd: float | None = None
    whole: bool = False
    note: str = ""

    @property
    def is_modeled(self) -> bool:
        """Whether the column is part of the matrix that a model is trained on."""
        return self.kind in MODELED

    @property
    def holds_classes(self) -> bool:
        """Whether cells are encoded by their place among `values`."""
        classes = self.kind in ("binary", "category")
        return classes or (self.kind == "condition" and self.content != "number")

    @property
    def is_ordered(self) -> bool:
        """Whether cells are classes that are numbers, in ascending order."""
        numbers = [v for v in self.values if not isinstance(v, str | bool)]
        ordered = len(numbers) == len(self.values) > 0 and sorted(numbers) == numbers
        return self.holds_classes and ordered

    @property
    def is_integer(self) -> bool:
        """Whether cells are whole numbers by their type, or as text that is whole numbers."""
        typed = self.dtype.startswith(("Int", "UInt"))
        return typed or (self.whole and not self.dtype.startswith(("Float", "Decimal")))

    def with_kind(self, kind: str) -> "Column":
        """The column with another kind. Raises `ValueError` for a kind that its cells exclude."""
        if kind not in KINDS:
            raise ValueError(
                f"the kind of column {self.name!r} must be one of {', '.join(KINDS)}, got {kind!r}."
            )
        if (wanted := self._lacks(kind)) is not None:
            raise ValueError(f"column {self.name!r}, to be {kind}, must {wanted}.")
        return dataclasses.replace(self, kind=kind, note="")

    def _lacks(self, kind: str) -> str | None:
        """What the cells would have to be for this kind, and what they are."""
        numeric = self.minimum is not None and self.content == "number"
        if kind == "ignored":
            return None
        if self.content == "date":
            return (
                "hold numbers or categories, got dates. Add a column of your own, such as the days "
                "since a start, or the month"
            )
        if self.content == "other":
            return f"hold numbers, text or booleans, got something else ({self.note})"
        if kind == "label":
            return None
        if kind in ("real", "positive", "count") and not numeric:
            return f"hold numbers, got {self._described()}"
        if kind == "positive" and not (self.minimum or 0) > 0:
            return f"hold numbers > 0, got {self.minimum:g}"
        if kind == "count" and not (self.whole and (self.minimum or 0) >= 0):
            return f"hold whole numbers >= 0, got numbers from {self.minimum:g} to {self.maximum:g}"
        if kind == "binary" and len(self.values) != 2:
            return f"hold two values, got {self._described()}"
        if kind == "category" and len(self.values) < 2:
            return f"hold at least two values, and not too many, got {self._described()}"
        if kind == "condition" and not (numeric or len(self.values) > 1):
            return f"hold numbers or a few categories, got {self._described()}"
        return None

    def _described(self) -> str:
        if self.content == "text" and not self.values:
            return f"text of many values ({self.note or 'raise max_categories'})"
        if self.minimum is None and not self.values:
            return "no values"
        if not self.values:
            return f"many numbers from {self.minimum:g} to {self.maximum:g} (raise max_categories)"
        listed = ", ".join(repr(value) for value in self.values[:_SHOWN])
        more = f" and {len(self.values) - _SHOWN} more" if len(self.values) > _SHOWN else ""
        return f"{self.content}: {listed}{more}"

    def decode(self, x: NDArray[Any]) -> NDArray[Any]:
        """Cells (n,) from encoded numbers: float64 with NaN, or objects with None for classes.

        Classes and whole numbers are rounded to the nearest. Raises `ValueError` for a class that
        does not exist.
        """
        x = np.asarray(x, np.float64)
        if not self.holds_classes:
            return np.rint(x) if self.is_integer else x
        missing = np.isnan(x)
        index = np.rint(np.where(missing, 0, x))
        if np.any(wrong := (index < 0) | (index >= len(self.values))):
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"column {self.name!r} must have classes 0 to {len(self.values) - 1}, got "
                f"{x[row]:g} in row {row}. Decode what a model of this table drew."
            )
        cells = np.empty(len(x), object)
        cells[:] = [self.values[i] for i in index.astype(int)]
        cells[missing] = None
        return cells

    def to_dict(self) -> dict[str, Any]:
        """The column as JSON: strings, numbers, booleans, lists and null."""
        return {**dataclasses.asdict(self), "values": list(self.values)}


def check_names(known: Iterable[str], asked: Iterable[str], what: str = "the table") -> None:
    """Raise `ValueError` for names that are not among the known ones."""
    known = list(known)
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ValueError(
            f"the columns of {what} are {', '.join(known)}; got {', '.join(map(repr, unknown))}, "
            "which is none of them. Check the spelling."
        )


def check_kinds(asked: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a kind that does not exist."""
    for name, kind in asked.items():
        if kind not in KINDS:
            raise ValueError(
                f"the kind of column {name!r} must be one of {', '.join(KINDS)}, got {kind!r}."
            )
