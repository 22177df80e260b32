"""The program's standard streams: what cannot be written there ends no run."""

import contextlib
import errno
import io
import os
import select
import shutil
import sys
from collections.abc import Iterator
from typing import Any


class _Lasting(io.RawIOBase):
    """A file descriptor that takes everything: what cannot be written, since a disk is full or a
    terminal gone, is lost, and the first error is kept in `error`."""

    def __init__(self, descriptor: int, *, ends: bool):
        self._descriptor = descriptor
        self._ends = ends  # whether the end of a pipe is an error: nobody reads on
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
            except BlockingIOError:  # a pipe that is full for now
                select.select([], [self._descriptor], [])
            except OSError as error:
                if self._ends and error.errno == errno.EPIPE:
                    raise
                self.error = self.error or error
                return len(content)


def lasting_streams() -> _Lasting | None:
    """Puts streams in the place of stdout and stderr that write to the same files, but end no run:
    characters that their encoding lacks are escaped. What is closed is /dev/null from here on.

    Returns what is below stdout, whose `error` says whether all of it was written; None where
    stdout is none of the system's.
    """
    for descriptor in range(3):  # or the next file that is opened would be one of the three
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    below = _replaced("stdout", ends=True)
    _replaced("stderr", ends=False)
    return below


def _replaced(name: str, *, ends: bool) -> _Lasting | None:
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
    raw = _Lasting(descriptor, ends=ends)
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
    """Within, help is set for 60 to 200 columns, whatever the terminal says of itself."""
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
