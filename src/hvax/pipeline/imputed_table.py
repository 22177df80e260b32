"""Imputed values as a DataFrame, with the table's own columns, order and types."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.build_frame import default_library
from hvax.data.fill import fill_frame
from hvax.data.schema import Table
from hvax.evaluation.imputation import Imputed


@dataclass(frozen=True, eq=False, repr=False)
class ImputedTable:
    """What a model makes of the missing cells of a DataFrame; other cells stay as they are.

    - `frame`: the DataFrame; `table`: its schema; `imputed`: the same in numbers, see `Imputed`.
    """

    frame: Any
    table: Table
    imputed: Imputed

    @property
    def mean(self) -> Any:
        """The frame with E[x | observed] in its missing cells; of classes the most probable one."""
        return self._filled(self.imputed.mean)

    @property
    def draws(self) -> list[Any]:
        """Completed frames, each with one draw of all missing cells (multiple imputation)."""
        return [self._filled(x) for x in self.imputed.draws]

    def interval(self, level: float = 0.9) -> tuple[Any, Any]:
        """Two frames, of the lower and upper ends that hold a missing number with that probability.

        Classes that are numbers have an order, and ends among these numbers; in missing cells of
        other classes both frames have the most probable one. Raises as `Imputed.interval` does.
        """
        low, high = _ends(self.imputed, self.table.modeled, level)
        return self._filled(low), self._filled(high)

    def cells(self, level: float = 0.9) -> Any:
        """One row for each missing cell: row, column, value, sd, low, high, class, probability.

        Of a number, `value`, its standard deviation and the ends of its interval; of a class, the
        most probable one and its probability (no such columns if the table has no classes), and the
        ends if its classes are numbers. Other places are missing. `row` counts the frame's rows
        from 0, whatever its index.

        A DataFrame of the frame's library (pandas or polars), else a dict.
        """
        columns = cells_of(self.imputed, self.table.modeled, level)
        library = self.table.library if self.table.library in ("pandas", "polars") else None
        library = library or default_library()
        if library == "pandas":
            import pandas

            return pandas.DataFrame(columns)
        if library == "polars":
            import polars

            return polars.DataFrame(columns)
        return columns

    def __repr__(self) -> str:
        return (
            repr(self.imputed)
            .replace("Imputed(", "ImputedTable(")
            .replace(
                ".mean, .draws, .sd, .interval(0.9)", ".mean, .draws, .interval(0.9), .cells()"
            )
        )

    def _filled(self, x: NDArray[Any]) -> Any:
        return fill_frame(self.table, self.frame, x, self.imputed.missing)


def _ends(imputed: Imputed, columns: Any, level: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """`Imputed.interval`, where both ends of a class are classes."""
    low, high = (end.copy() for end in imputed.interval(level))
    for j, column in enumerate(columns):
        if isinstance(column, str) or not column.holds_classes:
            continue
        if column.is_ordered:
            low[:, j], high[:, j] = np.floor(low[:, j]), np.ceil(high[:, j])
        else:
            low[:, j] = high[:, j] = imputed.mean[:, j]
    return low, high


def cells_of(imputed: Imputed, columns: Any, level: float) -> dict[str, list[Any]]:
    """The columns of `ImputedTable.cells`; `columns` are `Column`s, or the names of numbers."""
    low, high = _ends(imputed, columns, level)
    sd, mean = imputed.sd, imputed.mean
    of_classes = [not isinstance(column, str) and column.holds_classes for column in columns]
    names = ["row", "column", "value", "sd", "low", "high"]
    names += ["class", "probability"] if any(of_classes) else []
    found: dict[str, list[Any]] = {name: [] for name in names}
    for place, (row, j) in enumerate(np.argwhere(imputed.missing)):
        column, value = columns[j], mean[row, j]
        here = {"row": int(row), "column": column if isinstance(column, str) else column.name}
        if of_classes[j]:
            drawn = imputed.draws_of_missing[:, place]
            here["class"] = str(column.values[round(value)])
            here["probability"] = float(np.mean(np.rint(drawn) == round(value)))
            if column.is_ordered:
                ends = {"low": low[row, j], "high": high[row, j]}
                here |= {name: float(column.values[round(end)]) for name, end in ends.items()}
        else:
            numbers = {"value": value, "sd": sd[row, j], "low": low[row, j], "high": high[row, j]}
            here |= {name: float(number) for name, number in numbers.items()}
        for name, values in found.items():
            values.append(here.get(name))
    return found
