"""How every figure looks: its colors in two themes, its fonts and lines.

A color in a figure is a stand-in, such as #000001. `svg` replaces it by the theme's own color when
the figure is written, so one drawing serves both themes.
"""

from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, GRAY, FAINT, PAPER = "#000001", "#000002", "#000003", "#000004"
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
_NAMED = (INK, GRAY, FAINT, PAPER, BLUE, ORANGE, *KINDS, *SHADES)
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
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
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


def styled() -> Any:
    """The context (or decorator) in which figures are made and written."""
    return matplotlib.rc_context(_STYLE)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one picture, in inches; a phone shows about 3.7 of them at full size."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()
