"""Whatever a user calls things, the page shows it as text."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from hvax.report.chosen import spaced
from hvax.report.contents import Contents
from hvax.report.figures.style import new_figure, styled
from hvax.report.flow import Flow
from hvax.report.names import printable
from hvax.report.page import render
from hvax.report.parts import Cell, Head, Image, Picture, Row, Span, Table
from hvax.report.posteriors import Mark, Posteriors, Scene
from hvax.report.reconstructions import Reconstructions
from hvax.report.report import write_page
from hvax.report.results import Results
from hvax.report.samples import Samples
from reports_for_tests import check_page, tiny_run

HOSTILE = [
    '<script>alert("1")</script>',
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "]]><!-- & &amp; $x_{$ \\frac",
    "{{ page.title }} {% raw %} {# no comment",
    "_starts with an underscore",
    "名前 😀",
    "",
    "control \x0b\x00\x1b[31m",
    "turned \u202e round",
    "from a file system \udcff",
    "a label that is longer than a picture can hold " * 5,
]


def filled(words: str) -> Contents:
    """A page all of whose words are these."""
    with styled():
        figure, _ = new_figure(1.0, 1.0)
    alt = words or "-"
    picture = Picture(figure, alt, words)
    image = Image(np.zeros((2, 2, 4), np.uint8), alt, words)
    row = Row(Cell(words, words), [Cell(words, words), Cell(words, words, worse=True)])
    table = Table(words, [Head(words, "model"), Head(words, "")], [row])
    sentence = [Span(words), Span(words, strong=True)]
    return Contents(
        title=words,
        subtitle=words,
        results=Results(sentence, [sentence], table),
        training=[picture],
        reconstructions=Reconstructions(words, [image], picture),
        samples=Samples(image, picture, words),
        latent=picture,
        posteriors=Posteriors([Mark(words, "", "truth", words)], words, [Scene(picture, image)]),
        flow=Flow(words, [picture]),
        all_numbers=table,
        prepared=table,
        options=Table(words, [], [row]),
        version=words,
    )


@pytest.fixture(scope="module")
def plain():
    return check_page(render(filled("plain words")))


def shape(page):
    """A page without its words: tags, with the names of their attributes."""
    return [(tag, sorted(attributes)) for tag, attributes in page.tags]


@pytest.mark.parametrize("words", HOSTILE)
def test_every_word_is_escaped(words, plain):
    """The page has the elements that it has for plain words, and says each word as it is."""
    found = check_page(render(filled(words)))
    if not words:
        return  # a page without words has fewer remarks, and is whole
    assert shape(found) == shape(plain)
    for tag in ("h1", "title", "figcaption", "strong", "td", "code", "small"):
        said = "".join(found.words.get(tag, []))
        count = "".join(plain.words[tag]).count("plain words")
        assert count > 0 and said.count(printable(words)) >= count
    assert {image["alt"] for image in found.all("img")} == {printable(words) or "-"}
    labels = [each["aria-label"] for each in found.all("div") if "aria-label" in each]
    assert labels == [printable(words)] * 4


def test_what_is_printed_stays():
    assert printable("plain, ü, 名, 😀\nline") == "plain, ü, 名, 😀\nline"
    assert printable("\x00\u202e\udcff") == "\ufffd" * 3


def test_a_run_with_hostile_names(tmp_path):
    """Names of the run, labels, options, file names and numbers that this version does not know."""
    report = tiny_run()
    labels = np.full(len(report.test), "tame", "<U300")
    labels[spaced(len(labels), len(HOSTILE))] = HOSTILE  # those whose reconstructions are shown
    path = tmp_path / "report.html"
    hostile = dataclasses.replace(
        report,
        title=HOSTILE[0],
        labels=labels,
        options={name: {name: name, "list": [name]} for name in HOSTILE},
        evaluation={**report.evaluation, HOSTILE[1]: HOSTILE[1], "ended": HOSTILE[2]},
    )
    write_page(hostile, path, key=jax.random.key(0))
    found = check_page(path.read_text(encoding="utf-8"))
    assert "".join(found.words["h1"]) == HOSTILE[0]
    alts = " ".join(attributes["alt"] for attributes in found.all("img"))
    for words in HOSTILE:
        assert printable(words).strip()[:20] in alts


def test_the_policy_lets_nothing_in(plain):
    (policy,) = (m["content"] for m in plain.all("meta") if "http-equiv" in m)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert any(m.get("name") == "viewport" for m in plain.all("meta"))
    assert plain.all("html") == [{"lang": "en-US"}]


def test_sections_without_contents_are_left_out():
    """They have no link either."""
    empty = dataclasses.replace(
        filled("words"),
        training=[], latent=None, posteriors=None, flow=None, prepared=None, options=None,
    )  # fmt: skip
    found = check_page(render(empty))
    names = ["numbers", "reconstructions", "samples", "all"]
    assert [section["id"] for section in found.all("section")] == names
    assert [link["href"] for link in found.all("a")] == [f"#{name}" for name in names]


def test_the_style_is_whole():
    """The page holds page.css as it is; jinja2 reads nothing in it."""
    text = render(filled("words"))
    (style,) = re.findall("<style>\n(.*)</style>", text, flags=re.DOTALL)
    assert "prefers-color-scheme: dark" in style and "&" not in style and style.count("{") > 50
