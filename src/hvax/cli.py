"""The program: `hvax train ...`."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import tyro

from hvax import __version__
from hvax.commands.evaluate import evaluate_run
from hvax.commands.latent import encode_run, reconstruct_run, sample_run
from hvax.commands.report import report_run
from hvax.commands.train import train
from hvax.config import Encode, Evaluate, Reconstruct, Sample, Train, WriteReport

COMMANDS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "train": (Train, train),
    "evaluate": (Evaluate, evaluate_run),
    "encode": (Encode, encode_run),
    "reconstruct": (Reconstruct, reconstruct_run),
    "sample": (Sample, sample_run),
    "report": (WriteReport, report_run),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; its exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"hvax {__version__}")
        return 0
    config = tyro.extras.subcommand_cli_from_dict(
        {name: options for name, (options, _) in COMMANDS.items()},
        prog="hvax",
        description="Hamiltonian variational autoencoders. hvax COMMAND --help explains a command.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    command = next(run for options, run in COMMANDS.values() if isinstance(config, options))
    try:
        return command(config)
    except (ValueError, TypeError, OSError) as error:
        print(f"hvax: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hvax: interrupted", file=sys.stderr)
        return 130


def run() -> None:
    """The console script."""
    _keep_compiled_programs()
    sys.exit(main())


def _keep_compiled_programs() -> None:
    """In the user's cache folder, so that the next run starts quickly; unless JAX has been told of
    another folder, with JAX_COMPILATION_CACHE_DIR."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(Path(cache, "hvax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
