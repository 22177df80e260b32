"""The command-line program `hvax`: parse options, run the command, report errors as one line."""

import difflib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tyro
from tqdm import tqdm

from hvax import __version__
from hvax.commands.compare import compare_runs
from hvax.commands.directory import resumed_options
from hvax.commands.evaluate import evaluate_run
from hvax.commands.impute import impute_run
from hvax.commands.latent import encode_run, reconstruct_run, sample_run
from hvax.commands.report import report_run
from hvax.commands.train import train
from hvax.compile_cache import keep_compiled_programs
from hvax.config import (
    Compare,
    Encode,
    Evaluate,
    Impute,
    Reconstruct,
    Sample,
    Train,
    WriteReport,
    check_numbers,
)
from hvax.exceptions import GrayLevels, HvaxWarning, UntrustedNLL
from hvax.streams import readable_width, use_robust_streams
from hvax.training.interrupt import leave
from hvax.wording import for_program

COMMANDS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "train": (Train, train),
    "evaluate": (Evaluate, evaluate_run),
    "compare": (Compare, compare_runs),
    "encode": (Encode, encode_run),
    "reconstruct": (Reconstruct, reconstruct_run),
    "impute": (Impute, impute_run),
    "sample": (Sample, sample_run),
    "report": (WriteReport, report_run),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0: success. 1: training ended on numbers that are not finite, or --strict and a warning. 2: bad
    input, or output that could not be written. 130: Ctrl-C. 143: SIGTERM.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"hvax {__version__}")
        return 0
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        meant = f" Did you mean `hvax {close[0]}`?" if close else ""
        _say(f"the command must be one of {', '.join(COMMANDS)}, got {arguments[0]!r}.{meant}")
        return 2
    with readable_width():
        config = tyro.extras.subcommand_cli_from_dict(
            {name: options for name, (options, _) in COMMANDS.items()},
            prog="hvax",
            description="Hamiltonian variational autoencoders. "
            "hvax COMMAND --help lists its options.",
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    command = next(run for options, run in COMMANDS.values() if isinstance(config, options))
    try:
        if isinstance(config, Train) and config.resume:
            config = tyro.cli(
                Train,
                prog="hvax train",
                default=resumed_options(config.run_dir),
                args=arguments[1:],
                config=(tyro.conf.OmitArgPrefixes,),
            )
        check_numbers(config)
        with for_program(), _warnings() as given:
            code = command(config)
        return 1 if code == 0 and given and getattr(config, "strict", False) else code
    except BrokenPipeError:  # `run` handles a closed pipe
        raise
    except (ValueError, TypeError, OSError) as error:
        _say(_in_one_line(error))
        return 2
    except FloatingPointError as error:
        _say(_in_one_line(error))
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130


def _in_one_line(error: Exception) -> str:
    """The message in one line, but for the indented lines of a list."""
    text = ""
    for line in str(error).splitlines():
        listed = line.startswith("    ")
        text += ("\n    " if listed else "\n" if "\n" in text else " ") + " ".join(line.split())
    return text.strip()


def _say(line: str) -> None:
    tqdm.write(f"hvax: {line}", file=sys.stderr)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Print each hvax warning as one line; yields the list of their names, which grows."""
    given: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", HvaxWarning)
        others = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, HvaxWarning):
                others(message, category, *where, **more)
                return
            given.append(category.name)
            if category not in (UntrustedNLL, GrayLevels):  # the table of results shows these
                _say(f"WARNING {message}")

        warnings.showwarning = show
        yield given


def run() -> None:
    """Entry point of the console script `hvax`: run a command and exit the process."""
    stdout = use_robust_streams()
    tqdm.get_lock()  # created now, so that a Ctrl-C cannot interrupt its creation later
    keep_compiled_programs()
    try:
        try:
            code = main()
        finally:
            sys.stdout.flush()
        if stdout is not None and stdout.error is not None:
            _say(f"the standard output could not be written: {stdout.error}")
            code = code or 2
    except BrokenPipeError:  # `hvax ... | head`: the reader has closed the pipe
        with open(os.devnull, "w") as devnull:  # takes what Python flushes at exit
            os.dup2(devnull.fileno(), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except SystemExit as error:
        if not isinstance(error.code, int):
            raise
        code = error.code  # such as that of a second SIGTERM
    leave(code)
