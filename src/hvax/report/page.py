"""Contents -> HTML, by one template that escapes every word it is given."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from hvax.report.contents import Contents
from hvax.report.figures.svg import data_uri, png, svg
from hvax.report.names import printable
from hvax.report.parts import Image, Picture

_PIXELS_PER_INCH = 96  # CSS's


def render(contents: Contents) -> str:
    """The whole page, which holds everything it shows."""
    text = _templates().get_template("page.html.j2").render(page=contents)
    return text.lstrip()  # of the blank lines that the definitions before the page leave


def render_summary(text: str, pictures: Sequence[Picture], image: Image | None) -> str:
    """A piece of HTML without a page around it: preformatted text, and pictures below it."""
    template = _templates().get_template("summary.html.j2")
    return template.render(text=text, pictures=pictures, image=image)


@cache
def _templates() -> jinja2.Environment:
    """The template's environment: a name that is not known raises, so no word is lost."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["themes"] = _themes
    found.filters["pixels"] = _pixels
    return found


def _shown(value: Any) -> Any:
    """A value on its way into the page, whose words are escaped after this; what the template has
    written already is left alone, and what cannot be printed becomes U+FFFD."""
    return value if isinstance(value, Markup) else printable(str(value))


def _themes(picture: Picture) -> dict[str, Any]:
    """A figure as an image for each theme, with its size in CSS pixels."""
    uris = {theme: data_uri(file, "svg+xml") for theme, file in svg(picture.figure).items()}
    width, height = (round(_PIXELS_PER_INCH * side) for side in picture.figure.get_size_inches())
    return {**uris, "width": width, "height": height}


def _pixels(image: Image) -> dict[str, Any]:
    """An image as a PNG, with its size."""
    height, width, _ = image.pixels.shape
    return {"uri": data_uri(png(image.pixels), "png"), "width": width, "height": height}
