"""Messages that name options in the program, and arguments and calls in Python.

The library, which both use, writes the messages. The program sets a flag while it runs a command;
`words` reads it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PROGRAM: ContextVar[bool] = ContextVar("program", default=False)


@contextmanager
def for_program() -> Iterator[None]:
    """Inside this context, messages name the options of the program."""
    token = _PROGRAM.set(True)
    try:
        yield
    finally:
        _PROGRAM.reset(token)


def words(python: str, program: str) -> str:
    """Return `program` inside `for_program`, else `python`."""
    return program if _PROGRAM.get() else python


def counted(number: int, what: str) -> str:
    """A number of things: "1 epoch", "2,000 epochs"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def with_article(name: str) -> str:
    """A name with its article: "a VAE", "an HVAE", "an int"."""
    vowel = name[:1] in ("AEFHILMNORSX" if name[:2].isupper() else "AEIOUaeio")
    return f"{'an' if vowel else 'a'} {name}"


def kind_of(value: object) -> str:
    """What a value is: "an int", "a VAE"."""
    return with_article(type(value).__name__)


def named(argument: str) -> str:
    """The name of an argument: `step_size` in Python, `--step-size` in the program."""
    return words(argument, f"--{argument.replace('_', '-')}")
