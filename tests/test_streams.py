"""Streams that are closed, full or narrow: a message is lost there, and never a run."""

import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from hvax import __version__
from hvax.cli import COMMANDS, main
from hvax.streams import _RobustStream, readable_width
from test_cli import ENV, HVAX, VAE_ONLY, read_json

# As for a user without an entry in the list of users, and without $HOME.
NO_HOME = """
import os, pwd, sys
os.environ.pop("HOME", None)
def nobody(*_):
    raise KeyError("no entry")
pwd.getpwuid = pwd.getpwnam = nobody
sys.argv = ["hvax", *sys.argv[1:]]
from hvax.cli import run
run()
"""


def shell(line, folder, **env):
    """A line of the shell, in which hvax is the installed program."""
    return subprocess.run(
        ["bash", "-c", line.replace("hvax ", f"{HVAX} ", 1)],
        cwd=folder, env={**ENV, **env}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_no_home_folder_is_needed(tmp_path):
    env = {name: value for name, value in ENV.items() if name != "XDG_CACHE_HOME"}
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 2, (40, 8, 8)))
    command = f"train x.npy {VAE_ONLY.replace('--no-report', '--report')} --run-dir run"
    done = subprocess.run(
        [sys.executable, "-c", NO_HOME, *command.split()],
        cwd=tmp_path, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "run/report.html").is_file()  # which has pictures of matplotlib's


@pytest.mark.parametrize("stream", ["full", "closed"])
def test_version_where_stdout_is_full_or_closed(stream, tmp_path):
    done = shell(f"hvax --version {'>/dev/full' if stream == 'full' else '>&-'}", tmp_path)
    assert done.returncode == (2 if stream == "full" else 0) and done.stdout == ""
    if stream == "full":
        assert done.stderr.startswith("hvax: the standard output could not be written: ")
    assert done.stderr.count("\n") == (stream == "full")


@pytest.mark.parametrize("stream", ["2>/dev/full", "2>&-"])
def test_a_refusal_keeps_its_code_where_stderr_is_full_or_closed(stream, tmp_path):
    done = shell(f"hvax evaluate none {stream}", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_run_ends_well_where_nothing_can_be_said(tmp_path):
    """Both streams are full, and their encoding lacks the run's name. It was refused after its
    folder had been claimed."""
    done = shell(
        f"hvax train digits {VAE_ONLY} --run-dir größe >/dev/full 2>/dev/full",
        tmp_path, PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert done.returncode == 2
    assert np.isfinite(read_json(tmp_path / "größe/results.json")["vae"]["nll"])


def test_characters_that_an_encoding_lacks_are_escaped(tmp_path):
    done = shell("hvax evaluate größe; hvax --help", tmp_path, PYTHONIOENCODING="ascii")
    assert done.stderr.startswith("hvax: gr\\xf6\\xdfe is no run directory")
    assert "Traceback" not in done.stderr


def test_a_stream_that_fails_takes_everything():
    with open("/dev/full", "wb", buffering=0) as full:
        stream = _RobustStream(full.fileno(), raise_on_closed_pipe=True)
        assert stream.write(b"lost") == 4 and stream.error.errno == 28
    read, write = os.pipe()
    os.close(read)
    lasting = _RobustStream(write, raise_on_closed_pipe=False)
    assert lasting.write(b"lost") == 4 and isinstance(lasting.error, BrokenPipeError)
    with pytest.raises(BrokenPipeError):
        _RobustStream(write, raise_on_closed_pipe=True).write(b"nobody reads")
    os.close(write)


def test_a_pipe_that_is_full_for_now_is_waited_for():
    read, write = os.pipe()
    os.set_blocking(write, False)
    stream, sent = _RobustStream(write, raise_on_closed_pipe=True), b"x" * 200_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of JAX's threads, where other tests have started them
        pid = os.fork()
    if pid == 0:
        rest = sent
        while rest:
            rest = rest[stream.write(rest) :]
        os._exit(0)
    os.close(write)
    time.sleep(0.1)
    got = b""
    while piece := os.read(read, 65536):
        got += piece
    assert got == sent and os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("columns", ["1", "-5", "0", "", "many", "1000000000"])
def test_help_takes_no_longer_on_an_odd_terminal(columns, monkeypatch, capsys):
    """COLUMNS=1 took minutes."""
    monkeypatch.setenv("COLUMNS", columns)
    with readable_width():
        assert 60 <= int(os.environ["COLUMNS"]) <= 200
    assert os.environ["COLUMNS"] == columns
    if columns == "1":
        began = time.process_time()
        with pytest.raises(SystemExit):
            main(["train", "--help"])
        assert time.process_time() - began < 30
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


def test_columns_are_left_as_they_were(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    with readable_width():
        assert shutil.get_terminal_size().columns >= 60
    assert "COLUMNS" not in os.environ


NOT_FINITE = [
    "--save-seconds inf", "--sigma inf", "--sigma nan", "--beta0 nan", "--step-size nan",
    "--max-step inf", "--eta nan", "--learning-rate inf", "--flow-rate nan", "--clip nan",
    "--fractions nan 0.1 0.1",
]  # fmt: skip


@pytest.mark.parametrize("option", NOT_FINITE)
def test_options_that_json_does_not_hold_are_refused(option, tmp_path, monkeypatch, capsys):
    """--save-seconds inf trained, and then no command opened the run."""
    monkeypatch.chdir(tmp_path)
    assert main(f"train digits --run-dir run {option}".split()) == 2
    name, number = option.split()[:2]
    expected = f"hvax: {name} must be finite, got {number}. Give another number.\n"
    assert capsys.readouterr().err == expected
    assert not Path("run").exists()


def test_every_option_of_floats_is_tried():
    from dataclasses import fields

    found = set()

    def collect(options):
        for option in fields(options):
            kind = str(option.type)
            if "Options" in kind:
                collect(option.type)
            elif "float" in kind:
                found.add(f"--{option.name.replace('_', '-')}")

    collect(COMMANDS["train"][0])
    assert found == {option.split()[0] for option in NOT_FINITE}


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"hvax {__version__}\n"
