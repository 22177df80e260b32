"""What the experiments share: where results and figures lie, MNIST in its parts, fresh bits."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hvax.data import Examples, binarize_once, load_source, split

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parent.parent / "docs" / "figures"
BATCH = 100


class Parts(NamedTuple):
    """A data set as `hvax train` splits and binarizes it; training data stay gray."""

    train: Examples
    validation: np.ndarray
    test: np.ndarray


def parts_of(name: str, *, data_dir: str, seed: int = 0) -> Parts:
    source = load_source(name, data_dir=data_dir)
    indices = split(source, seed=seed)
    train, validation, test = (
        Examples(source.x, index, source.scale)
        for index in (indices.train, indices.validation, indices.test)
    )
    held_out = (
        np.asarray(binarize_once(examples, part)[:])
        for examples, part in ((validation, "validation"), (test, "test"))
    )
    return Parts(train, *held_out)


def binary(x: jax.Array, *, key: jax.Array) -> jax.Array:
    """Bits of gray levels, afresh at each step."""
    return jax.random.bernoulli(key, x).astype(jnp.float32)


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
