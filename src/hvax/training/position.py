"""How far a training has come: the `RunPosition` that a checkpoint stores, and its reading."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hvax.storage.logs import is_metrics

_COUNTS = {"epoch": 1, "done": 0, "skipped": 0, "skipped_in_a_row": 0, "best_epoch": 0}
_NUMBERS = ("best_elbo", "seconds", "compiling")
_ENDS = {"", "finished", "early stop", "interrupted", "terminated", "callback"}


@dataclass
class RunPosition:
    """The part of a checkpoint beside the arrays: numbers and strings that JSON stores exactly."""

    epoch: int = 1  # the current epoch
    done: int = 0  # its batches that are done
    sums: dict[str, float] = field(default_factory=dict)  # of its steps' reported numbers
    skipped: int = 0  # skipped updates of the current epoch
    skipped_in_a_row: int = 0
    history: list[dict[str, float | int]] = field(default_factory=list)
    best_epoch: int = 0
    best_elbo: float = -math.inf  # the best validation ELBO, or bound of several draws
    ended: str = ""  # finished, early stop, interrupted, terminated or callback
    seconds: float = 0.0  # of all processes that worked on the run
    compiling: float = 0.0  # the part of `seconds` spent compiling

    @property
    def skipped_in_all(self) -> int:
        """Skipped updates of all epochs."""
        return self.skipped + sum(int(row.get("skipped", 0)) for row in self.history)


def position_of(step: int, record: Mapping[str, Any]) -> RunPosition:
    """The position in the record of the checkpoint of step `step`.

    Raises `ValueError` for a record that no run can have written. A valid checksum is no proof of
    that: anybody can compute one.
    """
    position, identity = record.get("position"), record.get("identity")
    if not isinstance(position, dict) or not isinstance(identity, dict):
        raise ValueError("it must have the position and the identity of a run")
    expected = {field.name for field in fields(RunPosition)}
    if position.keys() != expected:
        raise ValueError(f"its position must have {sorted(expected)}, got {sorted(position)}")
    for name, least in _COUNTS.items():
        if type(position[name]) is not int or position[name] < least:
            raise ValueError(f"{name} must be an integer >= {least}, got {position[name]!r}")
    for name in _NUMBERS:
        if type(position[name]) not in (int, float):
            raise ValueError(f"{name} must be a number, got {position[name]!r}")
    for name in ("seconds", "compiling"):
        if not 0 <= position[name] < math.inf:
            raise ValueError(f"{name} must be finite and >= 0, got {position[name]!r}")
    if not isinstance(position["ended"], str) or position["ended"] not in _ENDS:
        raise ValueError(f"ended must be one of {sorted(_ENDS)}, got {position['ended']!r}")
    _check_sums(position["sums"])
    _check_history(position["history"], position["epoch"])
    _check_step(step, position, identity)
    return RunPosition(**position)


def _check_sums(sums: Any) -> None:
    if not isinstance(sums, dict) or not all(type(v) in (int, float) for v in sums.values()):
        raise ValueError(f"sums must be a dict of numbers, got {str(sums)[:80]}")


def _check_history(history: Any, epoch: int) -> None:
    if not isinstance(history, list) or len(history) != epoch - 1:
        raise ValueError(f"history must have an entry for each of {epoch - 1} epochs")
    for i, row in enumerate(history, 1):
        if not isinstance(row, dict) or not is_metrics(row) or row["epoch"] != i:
            raise ValueError(f"history must have numbers of epoch {i}, got {str(row)[:80]}")
        if type(row.get("skipped", 0)) is not int or type(row.get("step")) is not int:
            raise ValueError(f"step and skipped must be integers in epoch {i} of history")


def _check_step(step: int, position: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raise unless epoch and steps done add up to `step`: all epochs have equally many steps."""
    batch, examples = identity.get("batch_size"), identity.get("examples")
    if type(batch) is not int or batch < 1 or not isinstance(examples, list) or not examples:
        raise ValueError("its identity must have examples and batch_size")
    if type(examples[0]) is not int or not position["done"] <= (steps := examples[0] // batch):
        raise ValueError(f"done must be at most the steps of an epoch, got {position['done']}")
    if (position["epoch"] - 1) * steps + position["done"] != step:
        raise ValueError(
            f"its epoch and done must be those of step {step}, got epoch {position['epoch']} and "
            f"{position['done']} of {steps} steps"
        )
    if position["best_epoch"] >= position["epoch"]:
        raise ValueError(f"best_epoch must be below epoch, got {position['best_epoch']}")
