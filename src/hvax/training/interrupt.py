"""Signals as requests to stop: the current compiled call is finished, then the loop ends."""

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
"""The exit code of the program by how a run ended: 128 + the number of the signal."""


class Interrupt:
    """Whether a signal asked the run to end: "interrupted" or "terminated"; None if none did."""

    ended: str | None = None


@contextmanager
def on_interrupt(*, handle_signals: bool = True) -> Iterator[Interrupt]:
    """Turn the first Ctrl-C into a request to end; a second one ends the process at once.

    With `handle_signals` SIGTERM and SIGHUP are requests too, whatever their handlers; a SIGHUP
    that is ignored, as under nohup, stays ignored. All handlers are restored at the end.

    Without it only Ctrl-C is a request, and only if its handler is Python's own. The
    `KeyboardInterrupt` which that handler would raise at once is raised at the end instead: raised
    in the middle of a compiled call it could lose the state, whose old buffers the call has
    consumed and whose new ones nobody holds yet.

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

    caught = _program_signals() if handle_signals else _deferred_signals()
    before = {number: signal.signal(number, request) for number in caught}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if interrupt.ended is not None and not handle_signals:
        raise KeyboardInterrupt("training ended after the current steps")


def _program_signals() -> list[signal.Signals]:
    return [n for n in _ENDED if n != hangup or signal.getsignal(n) != signal.SIG_IGN]


def _deferred_signals() -> list[signal.Signals]:
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return [signal.SIGINT] if own else []


def leave(code: int) -> NoReturn:
    """End the program with an exit code.

    After a signal Python's own shutdown is skipped: a thread of JAX may still be compiling, and
    would crash (SIGSEGV) once the interpreter has unloaded the compiler under it.
    """
    if code in ENDED_BY_A_SIGNAL.values():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):  # closed, or a pipe without a reader
                continue
        os._exit(code)
    sys.exit(code)
