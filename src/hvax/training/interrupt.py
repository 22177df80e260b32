"""Ctrl-C, SIGTERM and SIGHUP as a request: the step in hand is finished, then the loop ends."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_ENDED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hangup := getattr(signal, "SIGHUP", None):  # POSIX: the terminal or the connection is gone
    _ENDED[hangup] = "terminated"
ENDED_BY_A_SIGNAL = {"interrupted": 130, "terminated": 143}
"""The exit code of the program, by how a run ended."""


class Interrupt:
    """Whether an end was asked for, and how the run is then said to have ended."""

    ended: str | None = None


@contextmanager
def on_interrupt() -> Iterator[Interrupt]:
    """Turns the first Ctrl-C, SIGTERM or SIGHUP into a request; a second one ends the process at
    once.

    A SIGHUP that is ignored, as under nohup, stays so. Outside the main thread Python delivers no
    signals, and nothing changes.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def request(number: int, frame: FrameType | None) -> None:
        ended = _ENDED[signal.Signals(number)]
        if interrupt.ended is not None:
            raise (
                KeyboardInterrupt
                if number == signal.SIGINT
                else SystemExit(ENDED_BY_A_SIGNAL[ended])
            )
        interrupt.ended = ended

    caught = [n for n in _ENDED if n != hangup or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, request) for number in caught}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int) -> NoReturn:
    """Ends the program. After a signal without Python's own end: JAX compiles in threads, which a
    second signal does not stop, and one that is still at work when the interpreter has taken the
    compiler apart calls what is no longer there (SIGSEGV)."""
    if code in ENDED_BY_A_SIGNAL.values():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):  # closed, or nobody reads on
                continue
        os._exit(code)
    sys.exit(code)
