"""What the experiments share: where results and figures lie, MNIST in its parts, fresh bits."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hvax import load_parts
from hvax.data import Examples
from hvax.pipeline.parts import fresh_bits as binary

__all__ = ["BATCH", "FIGURES", "RESULTS", "Parts", "binary", "markdown", "over", "parts_of",
           "spaced", "write"]  # fmt: skip

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parent.parent / "docs" / "figures"
BATCH = 100


class Parts(NamedTuple):
    """A data set as `hvax train` splits and binarizes it; training data stay gray."""

    train: Examples
    validation: np.ndarray
    test: np.ndarray


def parts_of(name: str, *, data_dir: str, seed: int = 0) -> Parts:
    parts = load_parts(name, data_dir=data_dir, split_seed=seed)
    held_out = (np.asarray(part[:]) for part in (parts.validation, parts.test))
    return Parts(parts.train, *held_out)


def spaced(x: np.ndarray, points: int) -> np.ndarray:
    """So many of them, evenly spaced; all where there are no more."""
    return x[np.unique(np.linspace(0, len(x) - 1, points).astype(int))]


def write(path: Path, record: Any) -> None:
    """JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(beside, path)


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    top, *below = (f"| {' | '.join(map(str, row))} |" for row in (head, *rows))
    return "\n".join((top, "|" + "---|" * len(head), *below))


def over(values: list[float]) -> str:
    """Mean ± standard deviation over seeds."""
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"
