"""Where a run's data lie: as absolute paths, and as seen from the run, which moves with them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hvax.data.source import SOURCES

# The options that are paths, and the group in which they stand.
_PATHS = (("source", None), ("data_dir", "data"), ("warm_start", "train"))


def from_here(options: Mapping[str, Any], run: Path) -> dict[str, str]:
    """The paths among a run's options, relative to its directory."""
    relative = {}
    for name, group in _PATHS:
        path = (options if group is None else options[group])[name]
        if path is not None and path not in SOURCES:
            relative[name] = os.path.relpath(path, run.resolve())
    return relative


def found(options: Any, relative: Any, run: Path) -> Any:
    """The options of a run, with each path as it is from the run's directory, if something is
    there; else the absolute one that was written down.

    Raises `ValueError` for what `from_here` has not made.
    """
    if relative is None:  # the first runs have none
        return options
    if not isinstance(relative, dict) or not all(isinstance(v, str) for v in relative.values()):
        raise ValueError(f"from_here must hold paths, got {relative!r}")
    if not isinstance(options, dict):
        return options
    options = dict(options)
    for name, group in _PATHS:
        path = run.resolve() / relative.get(name, "")
        if name not in relative or not path.exists():
            continue
        if group is None:
            options[name] = os.path.normpath(path)
        elif isinstance(options.get(group), dict):
            options[group] = options[group] | {name: os.path.normpath(path)}
    return options
