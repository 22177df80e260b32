"""How every picture looks, and how it gets into a page: SVG in two themes, PNG for images.

This file loads matplotlib. Colors in a figure are names (stand-ins such as #000001) that become
the theme's own when it is written, so a figure is drawn once.
"""

import base64
import io
import re
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

INK, GREY, FAINT, PAPER = "#000001", "#000002", "#000003", "#000004"
BLUE, ORANGE = "#000005", "#000006"  # the model and the baseline, wherever they meet
KINDS = tuple(f"#0000{10 + i}" for i in range(10))  # labels; told apart by their markers too
SHADES = tuple(f"#00002{i}" for i in range(8))  # numbers, from low to high
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">")

# Matthew Petroff's ten colors (2021), made for color-vision deficiencies; some are moved in
# lightness so that each stands off its background.
_KINDS_LIGHT = ("3f90da", "f28e00", "bd1f01", "7f9190", "832db6",
                "a96b59", "e76300", "a39649", "4a4f5c", "45b3b8")  # fmt: skip
_KINDS_DARK = ("5ba8ee", "ffb53a", "ff6b52", "a9b8b7", "c07be8",
               "c9927f", "ff8a3c", "c9bd7e", "8d93a3", "92dadd")  # fmt: skip
# Viridis without the end that the background swallows.
_SHADES_LIGHT = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "a0cf2b")
_SHADES_DARK = ("5b53a4", "4a71b4", "3a8bb0", "2ba39b", "35b779", "6ece58", "b5de2b", "fde725")
_NAMED = (INK, GREY, FAINT, PAPER, BLUE, ORANGE, *KINDS, *SHADES)
_LIGHT = ("20242b", "6b7280", "d9dce1", "ffffff", "0068a8", "c75300", *_KINDS_LIGHT, *_SHADES_LIGHT)
_DARK = ("e4e6ea", "9aa2af", "3a404a", "171a1f", "5cb3ea", "f0924a", *_KINDS_DARK, *_SHADES_DARK)
THEMES = {
    theme: dict(zip(_NAMED, (f"#{color}" for color in colors), strict=True))
    for theme, colors in (("light", _LIGHT), ("dark", _DARK))
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "svg.hashsalt": "hvax",
    "text.parse_math": False,  # a label may hold a dollar
    "path.simplify": False,  # it would lose dots drawn as one path
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "lines.linewidth": 1.6,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Picture(NamedTuple):
    """A figure with what it shows in words: `alt` in its stead, `caption` below it."""

    figure: Figure
    alt: str
    caption: str


def styled() -> Any:
    """The context (or decorator) in which figures are made and written."""
    return matplotlib.rc_context(_STYLE)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one picture, in inches; a phone shows about 3.7 of them at full size."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def dots(axes: Axes, where: NDArray[Any], color: str, *, size: float, alpha: float) -> None:
    """Round dots at `where` (n, 2) as one path: a tenth of the bytes of as many marks."""
    if len(where) == 0:
        return
    vertices = np.repeat(where, 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(where))
    axes.add_patch(
        PathPatch(
            Path(vertices, codes), fill=False, edgecolor=color, linewidth=size,
            capstyle="round", alpha=alpha,
        )
    )  # fmt: skip


def svg(figure: Figure) -> dict[str, bytes]:
    """The figure as SVG for each theme, transparent."""
    written = io.StringIO()
    nothing: Any = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with styled(), warnings.catch_warnings():
        # The reader's fonts draw the text, so it does not matter what Matplotlib's own lack.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    text = re.sub("<[^>]*>", _tidied, written.getvalue())
    return {
        theme: re.sub("<[^>]*>", partial(_painted, colors), text).encode()
        for theme, colors in THEMES.items()
    }


def _tidied(tag: re.Match[str]) -> str:
    """A tag with coordinates to a hundredth of a point, and fonts that the reader has; what stands
    between tags is left alone."""
    rounded = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", tag[0])
    return rounded.replace("'DejaVu Sans'", _FONT)


def _painted(colors: Mapping[str, str], tag: re.Match[str]) -> str:
    """A tag with a theme's colors for their stand-ins."""
    return re.sub(r"#0000[012]\d", lambda name: colors.get(name[0], name[0]), tag[0])


def png(pixels: NDArray[np.uint8]) -> bytes:
    """An image (height, width, 4) as PNG."""
    written = io.BytesIO()
    imsave(written, pixels, format="png", metadata={})
    return written.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Content as part of the page: kind is svg+xml or png."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def apart(values: list[float], gap: float) -> list[float]:
    """Values moved as little as needed for neighbors to be at least `gap` apart: where labels
    that belong to them may stand."""
    order = np.argsort(values, kind="stable")
    placed = np.array(values, float)[order]
    for _ in range(100):
        short = gap - np.diff(placed)
        if np.all(short <= 1e-9 * max(gap, 1)):
            break
        push = np.maximum(short, 0) / 2
        placed[:-1] -= push
        placed[1:] += push
    result = np.empty_like(placed)
    result[order] = placed
    return result.tolist()
