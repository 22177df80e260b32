"""Whether several runs are scored on the same data points."""

from collections.abc import Callable, Sequence

import numpy as np

from hvax.commands.directory import Run
from hvax.commands.inputs import Selected, run_data
from hvax.config import Compare, Train
from hvax.data.examples import Examples

_ROWS = 4096  # compared at a time
# What may make the data points differ: its flag, and where the options have it.
_CAUSES: dict[str, Callable[[Train], object]] = {
    "source": lambda c: c.source,
    "--array": lambda c: c.data.array,
    "--labels": lambda c: c.data.labels,
    "--columns": lambda c: c.data.columns,
    "--binarize": lambda c: c.data.binarize,
    "--fractions": lambda c: c.data.fractions,
    "--split-seed": lambda c: c.data.split_seed,
    "--likelihood": lambda c: c.model.likelihood,
}


def same_data(runs: Sequence[Run], config: Compare) -> Selected:
    """The data points of all runs, which must be the same for each: its test part, or all of
    --data. Raises `ValueError`, saying what differs."""
    first = _data(runs[0], config)
    for run in runs[1:]:
        other = _data(run, config)
        if not _same(first.examples, other.examples):
            raise ValueError(
                f"{run.path} is scored on other data points than {runs[0].path}: "
                f"{_what_differs(runs[0], run, first.examples, other.examples)}. Compare runs of "
                "the same data and split, or give both the same --data."
            )
    return first


def _data(run: Run, config: Compare) -> Selected:
    return run_data(run, config.data, config.file, config.own_data)


def _same(first: Examples, other: Examples) -> bool:
    if len(first) != len(other) or first.x_shape != other.x_shape:
        return False
    return all(
        np.array_equal(first[start : start + _ROWS], other[start : start + _ROWS])
        for start in range(0, len(first), _ROWS)
    )


def _what_differs(a: Run, b: Run, first: Examples, other: Examples) -> str:
    named = [
        f"{flag} is {_short(of(b.config))} there, {_short(of(a.config))} here"
        for flag, of in _CAUSES.items()
        if of(a.config) != of(b.config)
    ]
    if named:
        return "; ".join(named[:3])
    if (len(first), first.x_shape) != (len(other), other.x_shape):
        return f"{len(other)} of shape {other.x_shape} there, {len(first)} of {first.x_shape} here"
    return "their numbers differ"


def _short(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    text = " ".join(map(str, value))  # of columns there may be many
    return text if len(text) <= 60 else f"{text[:57]}..."
