"""Whatever a user calls things, the page shows it as text."""

import dataclasses

import jax
import numpy as np
import pytest

from hvax.report.names import printable
from hvax.report.page import Html, Section, image, page, paragraph, table, text
from hvax.report.report import write_report
from reports_for_tests import Page, check_page, tiny_run

HOSTILE = [
    '<script>alert("1")</script>',
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "]]><!-- & &amp; $x_{$ \\frac",
    "_starts with an underscore",
    "名前 😀",
    "",
    "control \x0b\x00\x1b[31m",
    "turned \u202e round",
    "from a file system \udcff",
    "a label that is longer than a picture can hold " * 5,
]


@pytest.mark.parametrize("words", HOSTILE)
def test_text_is_shown_as_it_is(words):
    found = Page(f"<p>{text(words)}</p>")
    assert [name for name, _ in found.tags] == ["p"]
    assert "".join(found.words.get("p", [])) == printable(words)


def test_what_is_printed_stays():
    assert printable("plain, ü, 名, 😀\nline") == "plain, ü, 名, 😀\nline"
    assert printable("\x00\u202e\udcff") == "\ufffd" * 3


@pytest.mark.parametrize("words", HOSTILE)
def test_every_part_escapes(words):
    pixels = np.zeros((2, 2, 4), np.uint8)
    body = Html(paragraph(words) + image(pixels, words or "-") + table([], [[text(words)]], words))
    whole = page(words, words, [Section("one", words, body)], words)
    found = check_page(whole)
    assert {name for name, _ in found.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "nav", "a",
        "main", "section", "img", "div", "table", "tbody", "tr", "th", "footer",
    }  # fmt: skip
    for tag in ("h1", "h2", "title", "footer", "th"):
        assert "".join(found.words.get(tag, [])) == printable(words)
    assert found.all("img")[0]["alt"] == (printable(words) or "-")


def test_a_run_with_hostile_names(tmp_path):
    """Names of the run, labels, options, file names and numbers that this version does not know."""
    report = tiny_run()
    labels = np.array([HOSTILE[i % 10] for i in range(len(report.test))])
    path = tmp_path / "report.html"
    hostile = dataclasses.replace(
        report,
        title=HOSTILE[0],
        labels=labels,
        options={name: {name: name, "list": [name]} for name in HOSTILE},
        evaluation={**report.evaluation, HOSTILE[1]: HOSTILE[1], "ended": HOSTILE[2]},
    )
    write_report(hostile, path, key=jax.random.key(0))
    found = check_page(path.read_text(encoding="utf-8"))
    assert "".join(found.words["h1"]) == HOSTILE[0]
    alts = " ".join(attributes["alt"] for attributes in found.all("img"))
    for words in HOSTILE[:10]:
        assert printable(words).strip()[:20] in alts


def test_the_policy_lets_nothing_in():
    found = Page(page("t", "s", [], "f"))
    (policy,) = (m["content"] for m in found.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert any(m.get("name") == "viewport" for m in found.all("meta"))
    assert found.all("html") == [{"lang": "en-US"}]
