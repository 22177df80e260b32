"""Advice in the words of the place: options in the program, arguments and calls in Python.

A message is made deep in the library, which both use. The program says once that it is the one who
is speaking; nothing else is remembered.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PROGRAM: ContextVar[bool] = ContextVar("program", default=False)


@contextmanager
def for_program() -> Iterator[None]:
    """Within it, messages name the options of the program."""
    token = _PROGRAM.set(True)
    try:
        yield
    finally:
        _PROGRAM.reset(token)


def words(python: str, program: str) -> str:
    """The one of the two that the reader of a message can act on."""
    return program if _PROGRAM.get() else python


def named(argument: str) -> str:
    """An argument as its reader writes it: `step_size` in Python, `--step-size` in the program."""
    return words(argument, f"--{argument.replace('_', '-')}")
