"""A run, trained once; every test works in a folder of its own that holds a copy."""

import re
import shutil

import pytest

from hvax.cli import main
from runs_for_tests import contents
from settings_for_tests import QUICK, settings

TRAIN = (
    "train digits --epochs 1 --hidden 8 --latent-size 2 --num-samples 5 --test-points 10"
    " --batch-size 16 --num-steps 1 --no-progress --no-report"
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    with settings(**QUICK):
        assert main([*TRAIN.split(), "--run-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, trained):
    """The working folder, with the run as `run`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path


@pytest.fixture
def ran(here, capsys):
    """Runs the program; what it printed."""

    def run(arguments: str) -> str:
        code = main(arguments.split())
        out, err = capsys.readouterr()
        assert (code, err) == (0, ""), arguments
        return out

    return run


@pytest.fixture
def refused(here, capsys, monkeypatch):
    """Runs the program, which must refuse in one line, before any work, and write nothing."""

    def work(*_, **__):
        pytest.fail("it began to work")

    for name in (
        "evaluation.evaluate.draws",
        "evaluation.batching.padded_batches",
        "evaluation.sandwich.annealed_importance_sampling",
        "commands.report.write_page",
    ):
        monkeypatch.setattr(f"hvax.{name}", work)

    def run(arguments: str, message: str) -> None:
        before = contents(here)
        code = main(arguments.split())
        out, err = capsys.readouterr()
        assert (code, out) == (2, ""), arguments
        assert re.fullmatch(r"hvax: .+\n", err), err
        assert re.search(message, err), err
        assert contents(here) == before, arguments

    return run
