"""The program, with a mark in a file at the begin and end of every save: `hvax train ...`."""

import os
import sys

from hvax import cli
from hvax.training.loop import Loop

_MARKS = os.open(os.environ["HVAX_TORTURE_MARKS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_save = Loop.save


def _marked(self: Loop) -> None:
    os.write(_MARKS, b"[")
    _save(self)
    os.write(_MARKS, b"]")


if __name__ == "__main__":
    Loop.save = _marked  # type: ignore[method-assign]
    cli._keep_compiled_programs()
    sys.exit(cli.main())
