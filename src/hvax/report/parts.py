"""What a page is made of, as plain data: words, tables, pictures. `page` writes them as HTML."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


class Span(NamedTuple):
    """A piece of a sentence; `strong` where it is stressed."""

    words: str
    strong: bool = False


Sentence = Sequence[Span]


class Picture(NamedTuple):
    """A figure with what it shows in words: `alt` in its stead, `caption` below it."""

    figure: Figure
    alt: str
    caption: str


class Image(NamedTuple):
    """RGBA pixels (height, width, 4) with what they show in words; `caption` may be empty."""

    pixels: NDArray[np.uint8]
    alt: str
    caption: str = ""


class Head(NamedTuple):
    """The top of a table's column; `kind` is the CSS class of its color."""

    name: str
    kind: str


class Cell(NamedTuple):
    """A cell of a table, with a remark below its value; `worse` where the remark is a warning."""

    value: str
    remark: str = ""
    worse: bool = False


class Row(NamedTuple):
    """A row of a table: its name, and a cell for each column."""

    name: Cell
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows; without `heads` its columns have no names.

    `label` is what a screen reader calls it.
    """

    label: str
    heads: Sequence[Head]
    rows: Sequence[Row]
