"""The paths among a run's options, also relative to the run: a project may be moved as a whole."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hvax.data.source import SOURCES

# The options that are paths, and the group in which they stand.
_PATHS = (("source", None), ("data_dir", "data"), ("warm_start", "train"))


def relative_paths(options: Mapping[str, Any], run: Path) -> dict[str, str]:
    """The paths among a run's options, relative to its directory."""
    relative = {}
    for name, group in _PATHS:
        path = (options if group is None else options[group])[name]
        if path is not None and path not in SOURCES:
            relative[name] = os.path.relpath(path, run.resolve())
    return relative


def resolve_paths(
    options: Mapping[str, Any], relative: Mapping[str, Any], run: Path
) -> dict[str, Any]:
    """A run's options, with each path replaced by the one relative to the run's directory where
    something is there; else the absolute path stays.

    Raises `ValueError` for what `relative_paths` has not made.
    """
    if not all(isinstance(path, str) for path in relative.values()):
        raise ValueError(f"relative_paths must hold paths, got {relative!r}")
    resolved = dict(options)
    for name, group in _PATHS:
        path = run.resolve() / relative.get(name, "")
        if name not in relative or not path.exists():
            continue
        if group is None:
            resolved[name] = os.path.normpath(path)
        elif isinstance(resolved.get(group), dict):
            resolved[group] = resolved[group] | {name: os.path.normpath(path)}
    return resolved
