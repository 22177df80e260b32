"""Progress on a terminal and in a file."""

import io
import sys

import pytest

from hvax import progress
from hvax.progress import progress_bar


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self._terminal = terminal

    def isatty(self):
        return self._terminal


def worked(monkeypatch, stream):
    """What a bar of 1,000 quick steps leaves on stderr."""
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(
        progress=True, total=1000, unit="step", desc="training", mininterval=0
    ) as bar:
        for _ in range(1000):
            bar.set_postfix({"ELBO": "-1.50"}, refresh=False)
            bar.update(1)
    return stream.getvalue()


def test_a_quick_one_leaves_nothing_in_a_file(monkeypatch):
    assert worked(monkeypatch, Stream(terminal=False)) == ""


def test_a_file_has_whole_lines(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    text = worked(monkeypatch, Stream(terminal=False))
    assert "\r" not in text and text.endswith("\n")
    first, *_ = lines = text.splitlines()
    assert len(lines) >= 1000 and first.startswith("training: 0% of 1000 steps [00:00<")
    assert "training: 50% of 1000 steps" in text and "ELBO=-1.50]" in lines[-1]


def test_a_terminal_has_a_bar(monkeypatch):
    text = worked(monkeypatch, Stream(terminal=True))
    assert text.count("\r") > 100 and "\n" not in text and "%|" in text


@pytest.mark.parametrize("stream", [None, Stream(terminal=True)])
def test_none_is_shown_where_nobody_looks(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(progress=stream is None, total=10, unit="step", desc="training") as bar:
        bar.update(10)
    assert stream is None or stream.getvalue() == ""
