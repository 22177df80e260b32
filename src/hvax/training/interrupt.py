"""Ctrl-C and SIGTERM as a request: the step in hand is finished, then the loop ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Interrupt:
    """Whether an end was asked for, and how the run is then said to have ended."""

    ended: str | None = None


@contextmanager
def on_interrupt() -> Iterator[Interrupt]:
    """Turns the first Ctrl-C or SIGTERM into a request; a second one ends the process at once.

    Outside the main thread Python delivers no signals, and nothing changes.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def request(number: int, frame: FrameType | None) -> None:
        if interrupt.ended is not None:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        interrupt.ended = _ENDED[signal.Signals(number)]

    before = {number: signal.signal(number, request) for number in _ENDED}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
