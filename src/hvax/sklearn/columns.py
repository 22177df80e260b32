"""Between what a user of scikit-learn has, arrays and DataFrames, and numbers for a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from hvax.data.encode import Unseen
from hvax.data.schema import Table
from hvax.data.source import Source
from hvax.data.table import as_integers
from hvax.evaluation.imputation import Imputed
from hvax.pipeline.imputed_table import ImputedTable
from hvax.pipeline.tables import is_table, numbers_only, read_table, without_conditions

_FEWEST = 2  # rows that something can be learned from


def is_frame(X: Any) -> bool:
    """Whether X is a DataFrame."""
    return not isinstance(X, str | Path | Mapping) and is_table(X)


class Numbers:
    """Arrays of numbers, (n, d): as they are."""

    def __init__(self, estimator: Any, X: Any, kinds: Mapping[Any, Any] | None):
        if kinds:
            raise ValueError(
                "kinds must be given only with a DataFrame, got an array. Leave them out, or fit "
                "pandas.DataFrame(X)."
            )
        x = _validated(estimator, X, reset=True)
        holes = bool(np.isnan(x).any())
        # Whole numbers as integers, which may be counts or classes.
        self.source = Source("X", x if holes else as_integers(x), None, 1.0, holes=holes)

    def read(self, estimator: Any, X: Any) -> NDArray[Any]:
        """X as numbers (n, d), NaN where a value is missing."""
        x = _validated(estimator, X, reset=False)
        # Classes are integers to a categorical likelihood.
        return as_integers(x) if np.issubdtype(self.source.x.dtype, np.integer) else x

    def restored(self, x: NDArray[Any], like: Any = None) -> Any:
        """Numbers of a model (n, d) as the user has them; of the type of `like`."""
        if x.ndim == 3:  # probabilities of classes
            x = np.argmax(x, axis=-1)
        return x.astype(np.float64)

    def imputed(self, X: Any, found: Imputed) -> Imputed:
        """Missing values filled in."""
        return found


class Columns:
    """DataFrames: columns by their schema, `table`."""

    def __init__(
        self,
        estimator: Any,
        X: Any,
        kinds: Mapping[Any, Any] | None,
        *,
        unseen: Unseen,
        numbers: bool,
    ):
        validate_data(estimator, X, reset=True, skip_check_array=True)
        if len(X) < _FEWEST:
            raise ValueError(
                f"X must have at least {_FEWEST} rows to fit {type(estimator).__name__}, got "
                f"{len(X)} sample(s). Give more rows."
            )
        table = without_conditions(Table.infer(X, kinds=kinds))
        self.table = numbers_only(table) if numbers else table
        self.unseen = unseen
        self.source = read_table(X, self.table, "X")

    def read(self, estimator: Any, X: Any) -> NDArray[Any]:
        """X as floats (n, d) of the modeled columns, NaN where a value is missing."""
        validate_data(estimator, X, reset=False, skip_check_array=True)
        return self.table.encode(self._frame(X), unseen=self.unseen)

    def restored(self, x: NDArray[Any], like: Any = None) -> Any:
        """Numbers of a model (n, d) as a DataFrame; of the library and index of `like`."""
        return self.table.decode(x, like=like if is_frame(like) else None)

    def imputed(self, X: Any, found: Imputed) -> ImputedTable:
        """Missing cells filled in; all others are as they were."""
        return ImputedTable(self._frame(X), self.table, found)

    def _frame(self, X: Any) -> Any:
        """A DataFrame as it is; the columns of an array by their places."""
        if is_frame(X):
            return X
        x = np.asarray(X)
        return {name: x[:, j] for j, name in enumerate(self.table.names)}


def _validated(estimator: Any, X: Any, *, reset: bool) -> NDArray[Any]:
    return validate_data(
        estimator,
        X,
        reset=reset,
        dtype=[np.float64, np.float32],
        ensure_all_finite="allow-nan",
        ensure_min_samples=_FEWEST if reset else 1,
    )
