"""Data as the files that people have: .csv with a header, .npy, .npz, written once."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A header and its lines; whole or not there."""
    beside = path.with_suffix(".new")
    with beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    os.replace(beside, path)


def write_table(
    path: Path,
    names: Sequence[str],
    x: NDArray[Any],
    labels: tuple[str, Sequence[object]] | None = None,
) -> None:
    """An array (n, columns) as .csv, whole numbers without a point, and a last column of labels."""
    if x.shape[1:] != (len(names),):
        raise ValueError(f"`x` must be (n, {len(names)}) as `names`, got shape {x.shape}.")
    rows = [[cell(value) for value in row] for row in x.tolist()]
    if labels is None:
        write_csv(path, names, rows)
        return
    name, values = labels
    write_csv(path, [*names, name], ([*row, v] for row, v in zip(rows, values, strict=True)))


def write_npy(path: Path, x: NDArray[Any]) -> None:
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        np.save(file, x)
    os.replace(beside, path)


def write_npz(path: Path, **arrays: NDArray[Any]) -> None:
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(beside, path)


def read_columns(text: str, columns: Sequence[str] | None = None) -> tuple[list[str], list[Any]]:
    """Header and lines of .csv text, of some columns, without lines that have an empty or NA cell.

    For sets that are to hold numbers alone: what is left out here is what their user left out.
    """
    header, *lines = csv.reader(text.splitlines())
    names = list(header if columns is None else columns)
    where = [header.index(name) for name in names]
    rows = [[line[i].strip() for i in where] for line in lines if line]
    return names, [row for row in rows if not {"", "NA"} & set(row)]


def cell(value: float) -> str:
    """Eight digits; of whole numbers no point."""
    return str(value) if isinstance(value, int) else f"{value:.8g}"
