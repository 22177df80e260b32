"""`hvax train`: train a model and the plain VAE beside it, print the scores, write the report."""

import shlex
from pathlib import Path

import jax

from hvax.commands.build import planned_run
from hvax.commands.directory import open_run, run_directory
from hvax.commands.inputs import seed_key
from hvax.commands.report import report_on
from hvax.config import Train
from hvax.pipeline.train import train_models
from hvax.pipeline.trained import Trained
from hvax.storage.forms import write_record
from hvax.storage.run_folder import BASELINE, REPORT, RESULTS
from hvax.training.interrupt import ENDED_BY_A_SIGNAL


def train(config: Train) -> int:
    """Run the command; returns its exit code.

    Raises `ValueError`, `TypeError` and `OSError` for bad input, before anything is written.
    """
    key = seed_key(config.train.seed)
    jax.config.update("jax_enable_x64", config.train.x64)
    config, parts, models, settings, description = planned_run(config, key=key)
    with run_directory(config, parts) as run_dir:
        print(description)
        trained = train_models(
            models,
            parts,
            settings,
            flow_label=config.flow.flow,
            run_dir=run_dir,
            resume=config.resume,
            tell=print,
            progress=config.progress,
            handle_signals=True,
        )
        if trained.unfinished is not None:
            return _print_how_to_resume(config, trained.unfinished.ended, run_dir)
        return _finish(config, trained, run_dir)


def _finish(config: Train, trained: Trained, run_dir: Path) -> int:
    """Write and print the results of a run; returns the exit code."""
    write_record(run_dir / RESULTS, trained.record())
    print(f"\n{trained}\n\nrun directory: {run_dir}")
    if config.report:
        shown = run_dir if trained.name in trained.results else run_dir / BASELINE
        parts = trained.parts
        report_on(open_run(shown), parts.test, parts.test_labels, run_dir / REPORT)
        print(f"report: {run_dir / REPORT}")
    return 0


def _print_how_to_resume(config: Train, ended: str, run_dir: Path) -> int:
    """Print how to resume a run that a signal ended; returns the exit code."""
    print(
        f"\n{ended}; everything is saved. Go on with\n"
        f"    hvax train {shlex.quote(config.source)} --run-dir {shlex.quote(str(run_dir))}"
        " --resume"
    )
    return ENDED_BY_A_SIGNAL[ended]
