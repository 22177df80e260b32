"""Standard streams for the program: a failed write to them does not end a run."""

import contextlib
import errno
import io
import os
import select
import shutil
import sys
from collections.abc import Iterator
from typing import Any


class _RobustStream(io.RawIOBase):
    """A raw stream whose writes always succeed.

    Output that cannot be written (a full disk, a closed terminal) is dropped, and the first error
    is kept in `error`. With `raise_on_closed_pipe` a closed pipe raises `BrokenPipeError` instead.
    """

    def __init__(self, descriptor: int, *, raise_on_closed_pipe: bool):
        self._descriptor = descriptor
        self._raise_on_closed_pipe = raise_on_closed_pipe
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, content: Any) -> int:
        while True:
            try:
                return os.write(self._descriptor, content)
            except BlockingIOError:  # a full pipe: wait until it can be written
                select.select([], [self._descriptor], [])
            except OSError as error:
                if self._raise_on_closed_pipe and error.errno == errno.EPIPE:
                    raise
                self.error = self.error or error
                return len(content)


def use_robust_streams() -> _RobustStream | None:
    """Replace stdout and stderr by streams to the same files whose writes always succeed.

    Characters that the encoding lacks are escaped. A closed stream is replaced by /dev/null.

    Returns the raw stream of stdout, whose `error` tells whether output was lost, or None if
    stdout has no file descriptor.
    """
    for descriptor in range(3):  # else the next opened file would take its number
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    raw = _replace("stdout", raise_on_closed_pipe=True)
    _replace("stderr", raise_on_closed_pipe=False)
    return raw


def _replace(name: str, *, raise_on_closed_pipe: bool) -> _RobustStream | None:
    stream = getattr(sys, name)
    if stream is None:
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        return None
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):
        stream.flush()
    raw = _RobustStream(descriptor, raise_on_closed_pipe=raise_on_closed_pipe)
    new = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or name == "stderr",
        write_through=stream.write_through,
    )
    setattr(sys, name, new)
    return raw


_NARROWEST, _WIDEST = 60, 200  # columns


@contextlib.contextmanager
def readable_width() -> Iterator[None]:
    """Inside this context, help is printed 60 to 200 columns wide, whatever COLUMNS says."""
    before = os.environ.get("COLUMNS")
    columns = shutil.get_terminal_size().columns
    os.environ["COLUMNS"] = str(min(_WIDEST, max(_NARROWEST, columns)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
