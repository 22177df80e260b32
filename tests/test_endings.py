"""Every way in which a run can end: what is on disk then, the exit code, what was printed, and what
resuming does."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from torture.faults import Lab, outcome, wait_for_a_save

from hvax.storage.structure import load
from settings_for_tests import but_slow

USERS_PROGRAM = Path(__file__).parent / "users_program.py"
FULL = ("bash", "-c", "ulimit -f 4; trap '' XFSZ; exec \"$@\"", "full")

FEW_PASSES = "--xla_backend_optimization_level=0"  # as in a lab's short form


class End(NamedTuple):
    """What a run leaves; `again`: the exit code of resuming it, and whether it then has the numbers
    of the run that nothing ended."""

    code: int
    printed: str
    results: bool = False
    again: tuple[int, bool] = (0, True)


THE_PROGRAM = {
    "finished": End(0, r"weights [0-9a-f]{16}", results=True),
    "early stop": End(0, r"stopped early", results=True, again=(0, False)),
    "Ctrl-C": End(130, r"interrupted .*--resume"),
    "SIGTERM": End(143, r"terminated .*--resume"),
    "SIGHUP": End(143, r"terminated .*--resume"),
    "SIGKILL": End(-9, r""),
    "non-finite stop": End(1, r"not finite .* The run stops here\. .*smaller"),
    # Of a run that had come to its end before, and goes on with more epochs.
    "disk full": End(2, r"checkpoint of step \d+ could not be written: .*can be resumed", True),
}
A_USERS_PROGRAM = {
    "finished": End(0, r"finished"),
    "callback": End(0, r"callback", again=(0, False)),
    "error in a callback": End(1, r"RuntimeError: the user's plot failed"),
    "exit in a callback": End(7, r""),
    "Ctrl-C": End(-signal.SIGINT, r"KeyboardInterrupt: training ended after the current steps"),
    "SIGTERM": End(-signal.SIGTERM, r""),
    "unreadable data": End(1, r"OSError: the connection to the data was lost"),
    "data cut short": End(1, r"OSError: .* was replaced or cut short while it was in use"),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("lab"), short=True, seed=0)


@pytest.mark.parametrize("how", but_slow(THE_PROGRAM, keep=("SIGKILL",)))
def test_the_program(how, lab):
    end, run, epochs = THE_PROGRAM[how], lab.new_run(), 150
    source = "outlier" if how == "non-finite stop" else "digits"
    if how == "disk full":
        lab.start(run, 1).communicate(timeout=300)
    process = lab.start(
        run,
        3 if how == "finished" else epochs,
        source=source,
        options={"early stop": "--patience 1", "non-finite stop": "--max-skipped 1"}.get(how, ""),
        under=FULL if how == "disk full" else (),
    )
    if how in ("Ctrl-C", "SIGTERM", "SIGHUP", "SIGKILL"):
        for _ in range(2):
            wait_for_a_save(run, process)
            time.sleep(0.1)
        number = {"Ctrl-C": "SIGINT"}.get(how, how)
        process.send_signal(getattr(signal, number))
    check_end(end, process, run)
    check_again(end, lab.start(run, 3 if how == "finished" else epochs, source=source), run)
    if end.again[1]:
        assert outcome(run) == lab.reference(3 if how == "finished" else epochs, source=source)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(lab):
    """To the same bits: it uses one of them."""
    run = lab.new_run()
    lab.start(run, 1).communicate(timeout=300)
    three = ("env", f"XLA_FLAGS={FEW_PASSES} --xla_force_host_platform_device_count=3")
    out, _ = lab.start(run, 3, under=three).communicate(timeout=300)
    assert re.search(r"weights [0-9a-f]{16}", out), out
    assert outcome(run) == lab.reference(3)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The numbers of a user's program that nothing ended."""
    run = tmp_path_factory.mktemp("user") / "run"
    check_end(A_USERS_PROGRAM["finished"], start(run, "finished"), run)
    return outcome(run)


@pytest.mark.parametrize("how", but_slow(A_USERS_PROGRAM, keep=("data cut short",)))
def test_a_users_program(how, tmp_path, uninterrupted):
    end, run = A_USERS_PROGRAM[how], tmp_path / "run"
    check_end(end, start(run, how), run)
    check_again(end, start(run, "finished", "--resume"), run)
    assert (outcome(run) == uninterrupted) == end.again[1]


def start(run: Path, how: str, *options: str) -> subprocess.Popen:
    data = np.random.default_rng(0).uniform(size=(203, 4)) < 0.5
    np.save(run.with_name("data.npy"), data.astype(np.float32))
    return subprocess.Popen(
        [sys.executable, USERS_PROGRAM, run, how, *options],
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check_end(end: End, process: subprocess.Popen, run: Path) -> None:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == end.code, out
    assert re.search(end.printed, out, re.S), out
    if end.printed == "":
        assert out == "" or "Traceback" not in out
    assert (run / "results.json").is_file() == end.results
    # Whatever happened: a checkpoint, the best model so far, and a log without a torn line.
    assert outcome(run)["step"] > 0
    load(run / "model")


def check_again(end: End, process: subprocess.Popen, run: Path) -> None:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == end.again[0], out
