"""Progress bars: a moving bar on a terminal, a line every half minute in a file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

_SECONDS = 30.0  # between lines in a file
_LINE = "{desc}: {percentage:.0f}% of {total_fmt} {unit}s [{elapsed}<{remaining}{postfix}]"


def progress_bar(*, progress: bool, **options: Any) -> tqdm:
    """A tqdm bar with these options on stderr; disabled if `progress` is false or stderr is closed.

    If stderr is not a terminal, a whole line is printed every half minute instead.
    """
    stream = sys.stderr
    if stream is None or not progress:
        return tqdm(**options, disable=True)
    # A notebook's stderr can draw the bar, though it reports that it is not a terminal.
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
    """Show "compiling" as the bar's title inside this context, if `due`.

    The time inside does not count for the bar's estimate of the time left.
    """
    if not due or bar.disable:
        yield
        return
    before, moves = bar.desc, bar.delay == 0  # in a file, lines keep to their interval
    bar.set_description_str("compiling", refresh=moves)
    try:
        yield
    finally:
        bar.set_description_str(before, refresh=moves)
        bar.unpause()


class _Lines:
    """A stream that prints each redraw of a tqdm bar as a separate line."""

    encoding = "ascii"  # tqdm draws the bar in characters of this encoding

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> None:
        if shown := text.strip():
            self._stream.write(f"{shown}\n")

    def flush(self) -> None:
        self._stream.flush()
