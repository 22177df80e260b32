"""Ctrl-C, and where it is asked for SIGTERM and SIGHUP, as a request: the step in hand is finished,
then the loop ends."""

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
def on_interrupt(*, handle_signals: bool = True) -> Iterator[Interrupt]:
    """Turn the first Ctrl-C into a request to end; a second one ends the process at once.

    With `handle_signals` SIGTERM and SIGHUP are requests too, whatever their handlers are; a SIGHUP
    that is ignored, as under nohup, stays so. All handlers are put back at the end.

    Without it Ctrl-C alone is a request, and only where Python's own handler is in place: what that
    handler would have raised, `KeyboardInterrupt`, is raised here at the end. It is put off because
    it may come while a compiled step has consumed the old state and nobody holds the new one yet.

    Outside the main thread Python delivers no signals, and nothing changes.
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

    caught = _caught() if handle_signals else _put_off()
    before = {number: signal.signal(number, request) for number in caught}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if interrupt.ended is not None and not handle_signals:
        raise KeyboardInterrupt("training ended after the steps in hand")


def _caught() -> list[signal.Signals]:
    return [n for n in _ENDED if n != hangup or signal.getsignal(n) != signal.SIG_IGN]


def _put_off() -> list[signal.Signals]:
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return [signal.SIGINT] if own else []


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
