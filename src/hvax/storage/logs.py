"""The logs of a run: a JSON object a line, for each epoch and for each skipped update."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hvax.storage.json_files import json_object

METRICS, SKIPPED = "metrics.jsonl", "skipped.jsonl"


def is_metrics(record: Mapping[str, Any]) -> bool:
    """Whether a line of metrics.jsonl holds what a run writes: an epoch, and numbers or null."""
    epoch = record.get("epoch")
    return (
        type(epoch) is int
        and epoch >= 1
        and all(value is None or type(value) in (int, float) for value in record.values())
    )


def is_skipped(record: Mapping[str, Any]) -> bool:
    """Whether a line of skipped.jsonl holds what a run writes: a step and an epoch."""
    return type(record.get("step")) is int and type(record.get("epoch")) is int


_LINES = {
    METRICS: (is_metrics, "an epoch >= 1 and numbers"),
    SKIPPED: (is_skipped, "a step and an epoch"),
}


def read_log(path: Path, *, leave_out_damaged: bool = False) -> list[dict[str, Any]]:
    """The lines of a log; none where the file is missing. A last line that a crash has cut short is
    left out.

    Raises `ValueError`, which names the file and the line, for any other line that no run has
    written; with `leave_out_damaged` it is left out too.
    """
    is_valid, needs = _LINES[path.name]
    lines = path.read_bytes().splitlines() if path.is_file() else []
    found = []
    for i, line in enumerate(lines):
        try:
            record = json_object(line)
        except ValueError as error:
            if i < len(lines) - 1 and not leave_out_damaged:
                raise ValueError(f"{path} is damaged in line {i + 1}: {error}.") from error
            continue
        if is_valid(record):
            found.append(record)
        elif not leave_out_damaged:
            raise ValueError(f"{path} is damaged in line {i + 1}: it must hold {needs}.")
    return found
