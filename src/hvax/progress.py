"""Progress bars: one that moves on a terminal, and a line now and then in a file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

_SECONDS = 30.0  # between lines in a file
_LINE = "{desc}: {percentage:.0f}% of {total_fmt} {unit}s [{elapsed}<{remaining}{postfix}]"


def progress_bar(*, progress: bool, **options: Any) -> tqdm:
    """A tqdm bar with these options, on stderr; none where `progress` is false or nobody can see.

    Where stderr is no terminal, whole lines stand for the bar: the first after half a minute, and
    then one every half minute.
    """
    stream = sys.stderr
    if stream is None or not progress:
        return tqdm(**options, disable=True)
    # A notebook's stderr draws the bar, and says that it is no terminal.
    if stream.isatty() or "ipykernel" in sys.modules:
        return tqdm(**options, leave=False)
    return tqdm(
        **options
        | {
            "file": _Lines(stream),
            "delay": _SECONDS,
            "mininterval": _SECONDS,
            "maxinterval": 2 * _SECONDS,
            "bar_format": _LINE,
            "leave": False,
        }
    )


@contextmanager
def compiling(bar: tqdm, due: bool) -> Iterator[None]:
    """Says that a bar waits for the compiler, if that is due; the time left is then that of steps
    alone."""
    if not due or bar.disable:
        yield
        return
    before, moves = bar.desc, bar.delay == 0  # lines come when they are due
    bar.set_description_str("compiling", refresh=moves)
    try:
        yield
    finally:
        bar.set_description_str(before, refresh=moves)
        bar.unpause()


class _Lines:
    """Takes what tqdm writes over and over in one line, and writes a line for each."""

    encoding = "ascii"  # of the characters that tqdm may use

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> None:
        if shown := text.strip():
            self._stream.write(f"{shown}\n")

    def flush(self) -> None:
        self._stream.flush()
