"""The HTML of a report: text is escaped here and nowhere else, and nothing is fetched."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple, NewType

import numpy as np
from numpy.typing import NDArray

from hvax.report.figure import Picture, data_uri, png, svg
from hvax.report.names import printable

Html = NewType("Html", str)
"""Text that is HTML already; every other string is escaped on its way in."""

# The page may show what it holds, and reach nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Section(NamedTuple):
    """A part of the page; `name` is its anchor."""

    name: str
    title: str
    body: Html


def page(title: str, subtitle: str, sections: Sequence[Section], footer: str) -> Html:
    """The whole document."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    links = joined(Html(f'<a href="#{s.name}">{text(s.title)}</a>') for s in sections)
    parts = joined(
        Html(
            f'<section id="{s.name}" aria-labeledby="{s.name}-title">\n'
            f'<h2 id="{s.name}-title">{text(s.title)}</h2>\n{s.body}\n</section>'
        )
        for s in sections
    )
    return Html(f"""<!DOCTYPE html>
<html lang="en-US">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{text(title)}</h1>
<p>{text(subtitle)}</p>
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{parts}
</main>
<footer>{text(footer)}</footer>
</body>
</html>
""")


def joined(pieces: Iterable[Html]) -> Html:
    return Html("\n".join(pieces))


def text(words: object) -> Html:
    """Words as HTML that shows them, whatever they hold; what cannot be printed becomes U+FFFD."""
    return Html(escape(printable(str(words))))


def paragraph(words: str, kind: str = "") -> Html:
    """Words as one paragraph."""
    return element("p", text(words), kind)


def element(tag: str, content: Html, kind: str = "") -> Html:
    """An element of a CSS class."""
    attribute = f' class="{kind}"' if kind else ""
    return Html(f"<{tag}{attribute}>{content}</{tag}>")


def pictures(found: Iterable[Picture | None], kind: str = "") -> Html:
    """Pictures beside each other where there is room."""
    figures = joined(figure(picture) for picture in found if picture is not None)
    return element("div", figures, f"pictures {kind}".strip())


def figure(picture: Picture, beside_caption: Html | None = None) -> Html:
    """A picture in both themes, with its caption."""
    caption = element("figcaption", text(picture.caption))
    if beside_caption is not None:
        caption = element("div", Html(beside_caption + caption), "with-input")
    written = svg(picture.figure)
    width, height = (round(96 * inches) for inches in picture.figure.get_size_inches())
    return Html(
        "<figure><picture>"
        '<source media="(prefers-color-scheme: dark)" '
        f'srcset="{data_uri(written["dark"], "svg+xml")}">'
        f'<img src="{data_uri(written["light"], "svg+xml")}" alt="{text(picture.alt)}" '
        f'width="{width}" height="{height}"></picture>{caption}</figure>'
    )


def image(pixels: NDArray[np.uint8], alt: str) -> Html:
    """An RGBA image, its pixels kept apart however large it is shown."""
    height, width, _ = pixels.shape
    return Html(
        f'<img class="pixels" src="{data_uri(png(pixels), "png")}" alt="{text(alt)}" '
        f'width="{width}" height="{height}">'
    )


def table(head: Sequence[Html], rows: Iterable[Sequence[Html]], caption: str) -> Html:
    """A table whose first column names its rows; with a `head`, narrow screens stack the names."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "\n".join(
        f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for name, *cells in rows
    )
    header = f"<thead><tr>{top}</tr></thead>\n" if head else ""
    kind = "scroll columns" if head else "scroll"
    return Html(
        f'<div class="{kind}" role="region" aria-label="{text(caption)}" tabindex="0"><table>\n'
        f"{header}<tbody>\n{body}\n</tbody></table></div>"
    )
