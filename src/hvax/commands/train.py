"""`hvax train`: trains a model, and the plain VAE beside it; prints and draws what came of it."""

import shlex
from pathlib import Path

import jax

from hvax.commands.build import (
    decided,
    own_parts,
    run_models,
    run_settings,
    run_sizes,
    run_vae,
)
from hvax.commands.directory import open_run, run_directory
from hvax.commands.inputs import seed_key
from hvax.commands.report import report_on
from hvax.config import Train
from hvax.pipeline.table import describe
from hvax.pipeline.train import train_models
from hvax.pipeline.trained import Trained
from hvax.storage.forms import write_record
from hvax.storage.run_folder import BASELINE, REPORT, RESULTS
from hvax.training.interrupt import ENDED_BY_A_SIGNAL


def train(config: Train) -> int:
    """The program's `train`; gives its exit code.

    Raises `ValueError`, `TypeError` and `OSError` for bad input, before anything is written.
    """
    key = seed_key(config.train.seed)
    jax.config.update("jax_enable_x64", config.train.x64)
    parts = own_parts(config)
    config = decided(config, parts)
    vae = run_vae(config, parts, key=key)
    models, settings = run_models(config, vae), run_settings(config, parts)
    settings.check(vae, parts)
    with run_directory(config, parts) as run_dir:
        print(describe(parts, config.model.network, run_sizes(config, parts), settings))
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
            return _say_how_to_go_on(config, trained.unfinished.ended, run_dir)
        return _finish(config, trained, run_dir)


def _finish(config: Train, trained: Trained, run_dir: Path) -> int:
    """Write and print what came of a run; its exit code."""
    write_record(run_dir / RESULTS, trained.record())
    print(f"\n{trained}\n\nrun directory: {run_dir}")
    if config.report:
        shown = run_dir if trained.name in trained.results else run_dir / BASELINE
        parts = trained.parts
        report_on(open_run(shown), parts.test, parts.test_labels, run_dir / REPORT)
        print(f"report: {run_dir / REPORT}")
    return 0


def _say_how_to_go_on(config: Train, ended: str, run_dir: Path) -> int:
    """Say how to go on with a run that a signal ended; its exit code."""
    print(
        f"\n{ended}; everything is saved. Go on with\n"
        f"    hvax train {shlex.quote(config.source)} --run-dir {shlex.quote(str(run_dir))}"
        " --resume"
    )
    return ENDED_BY_A_SIGNAL[ended]
