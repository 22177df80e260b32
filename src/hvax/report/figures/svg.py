"""Figures and images as bytes: SVG in two themes, PNG for pixels, both as data URIs."""

import base64
import io
import re
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from hvax.report.figures.style import THEMES, styled

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


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
