"""`hvax train --resume`, `--strict`, and the digest of the weights that a run prints."""

import contextlib
import io
import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import hvax
from hvax.cli import main
from hvax.storage.lock import exclusive_lock
from hvax.storage.structure import digest
from hvax.training.validation import Validation
from runs_for_tests import MISSING, contents, edit, read_json, write
from settings_for_tests import QUICK, settings

OPTIONS = (
    "--model vae --epochs 2 --hidden 4 --latent-size 1 --num-samples 200 --test-points 4"
    " --batch-size 4 --learning-rate 0.05 --likelihood fixed-gaussian --sigma 5"
    " --no-progress --no-report"
)
TRAIN = f"train reals.npy {OPTIONS} --standardize"
RESUME = "train reals.npy --run-dir run --resume"


def program(arguments):
    return main(arguments.split())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with data."""
    monkeypatch.chdir(tmp_path)
    reals = np.random.default_rng(0).normal(size=(60, 3))
    np.save("reals.npy", reals)
    np.save("others.npy", reals + 1)
    return tmp_path


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of two epochs, and what it printed; under the settings of conftest.py."""
    folder, printed = tmp_path_factory.mktemp("first"), io.StringIO()
    np.save(folder / "reals.npy", np.random.default_rng(0).normal(size=(60, 3)))
    with (
        settings(**QUICK),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(printed),
    ):
        assert program(f"{TRAIN} --run-dir run") == 0
    return folder / "run", printed.getvalue()


@pytest.fixture
def run(here, first):
    """A copy of it, on the data of the working folder."""
    shutil.copytree(first[0], "run")
    edit(options__source=str(here / "reals.npy"))(Path("run"))
    return here / "run"


def digest_of(out):
    (found,) = re.findall(r"^ +weights ([0-9a-f]{16})$", out, re.M)
    return found


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def history(run):
    return [
        {k: v for k, v in row.items() if k != "seconds"} for row in lines(run / "metrics.jsonl")
    ]


def interrupted(monkeypatch, arguments, after=1):
    """A run with Ctrl-C at the end of an epoch."""
    call, epochs = Validation.__call__, []

    def press(self, model):
        epochs.append(1)
        if len(epochs) == after:
            signal.raise_signal(signal.SIGINT)
        return call(self, model)

    with monkeypatch.context() as patched:
        patched.setattr(Validation, "__call__", press)
        assert program(arguments) == 130


# Going on


def test_an_interrupted_run_ends_in_the_same_numbers(here, first, monkeypatch, capsys):
    """The options come from config.json: --resume alone is enough. Seen to fail on defaults."""
    interrupted(monkeypatch, f"{TRAIN} --run-dir run")
    out = capsys.readouterr().out
    assert "interrupted after 1 epoch;" in out
    (line,) = re.findall(r"^    hvax (train .*)$", out, re.M)  # what it says to do
    assert not Path("run/results.json").exists()
    assert program(line) == 0
    out = capsys.readouterr().out
    assert digest_of(out) == digest_of(first[1])
    assert history(here / "run") == history(first[0])
    ours, theirs = (
        read_json(folder / "results.json")["vae"] for folder in (here / "run", first[0])
    )
    same = {name for name in ours if "seconds" not in name}
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert ours["ended"] == "finished" and ours["weights"][:16] == digest_of(out)


def test_a_finished_run_is_scored_again_and_not_trained(run, first, capsys):
    before = contents(run / "model")
    assert program(RESUME) == 0
    assert digest_of(capsys.readouterr().out) == digest_of(first[1])
    assert history(run) == history(first[0]) and contents(run / "model") == before


def test_more_epochs_are_a_longer_run(here, run, capsys):
    assert program(f"{RESUME} --epochs 3") == 0
    longer = digest_of(capsys.readouterr().out)
    assert read_json(run / "config.json")["options"]["train"]["epochs"] == 3
    assert program(f"{TRAIN} --epochs 3 --run-dir whole") == 0
    assert digest_of(capsys.readouterr().out) == longer
    assert history(run) == history(here / "whole")


@pytest.mark.parametrize(
    "option",
    [
        "--patience 5",
        "--save-seconds 1.5",
        "--max-skipped 3",
        "--num-samples 300",
        "--test-points 2",
        "--strict",
        "--data-dir elsewhere",
    ],
)
def test_what_may_differ_goes_through(option, run, capsys):
    assert program(f"{RESUME} {option}") == 0
    assert capsys.readouterr().err == ""


def test_the_same_options_given_again_go_through(run, capsys):
    assert program(f"{TRAIN} --run-dir run --resume --seed 0 --learning-rate 0.05") == 0


def test_from_another_folder(run, monkeypatch, capsys):
    """The source is found where it was; the run directory is that of the line."""
    (run / "deeper").mkdir()
    monkeypatch.chdir(run / "deeper")
    assert program("train ../../reals.npy --run-dir .. --resume") == 0


@pytest.mark.slow
def test_a_baseline_is_gone_on_with_too(here, monkeypatch, capsys):
    """Interrupted in the plain VAE, and in the HVAE that comes after it."""
    options = f"{TRAIN.replace('--model vae', '--num-steps 1')} --epochs 1"
    assert program(f"{options} --run-dir whole") == 0
    expected = re.findall("weights ([0-9a-f]+)", capsys.readouterr().out)
    assert len(set(expected)) == 2
    interrupted(monkeypatch, f"{options} --run-dir run")
    assert not Path("run/metrics.jsonl").exists()  # the HVAE has not begun
    interrupted(monkeypatch, RESUME)
    assert program(RESUME) == 0
    assert re.findall("weights ([0-9a-f]+)", capsys.readouterr().out)[-2:] == expected
    for part in ("", "baseline/"):
        assert history(here / "run" / part) == history(here / "whole" / part)


# What is refused


@pytest.fixture
def refused(here, capsys, monkeypatch):
    """In one line, with exit code 2, and with everything as it was."""

    def check(arguments, message):
        monkeypatch.setattr(
            "hvax.commands.train.train_models", lambda *_, **__: pytest.fail("it trained")
        )
        before = contents(here)
        code = program(arguments)
        out, err = capsys.readouterr()
        assert (code, out) == (2, ""), err
        assert re.fullmatch(r"hvax: .+\n", err) and re.search(message, err), err
        assert contents(here) == before

    return check


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--seed 1", "another value of --seed: 0 there, 1 here. Leave it out"),
        ("--batch-size 8", "another value of --batch-size: 4 there, 8 here"),
        ("--hidden 5", r"another value of --hidden: \[4\] there, \[5\] here"),
        ("--latent-size 3", "another value of --latent-size: 1 there, 3 here"),
        ("--learning-rate 0.01", "another value of --learning-rate: 0.05 there, 0.01 here"),
        ("--optimizer sgd", "another value of --optimizer: adam there, sgd here"),
        ("--model hvae", "another value of --model: vae there, hvae here"),
        ("--no-standardize", "another value of --standardize: True there, False here"),
        ("--split-seed 1", "another value of --split-seed: 0 there, 1 here"),
        ("--fractions 0.7 0.2 0.1", "another value of --fractions"),
        ("--likelihood gaussian", "another value of --likelihood: fixed-gaussian there, gaussian"),
        ("--sigma 4", "another value of --sigma: 5.0 there, 4.0 here"),
        ("--x64", "another value of --x64: False there, True here"),
        ("--num-steps 5", "another value of --num-steps: 4 there, 5 here"),
        ("--seed 1 --epochs 9", "another value of --seed"),
    ],
)
def test_what_may_not_differ_is_refused_by_name(option, message, run, refused):
    refused(f"{RESUME} {option}", message)


def test_other_data_are_refused(run, refused):
    refused(RESUME.replace("reals", "others"), "another value of the source: .*reals.npy there")


def test_data_that_have_changed_are_refused(here, run, capsys):
    """Under the same name: found when the run is opened."""
    shutil.copy("others.npy", "reals.npy")
    before = contents(run / "checkpoints")
    assert program(RESUME) == 2
    assert (
        "reals.npy does not hold the numbers that run was started with" in capsys.readouterr().err
    )
    assert contents(run / "checkpoints") == before


def test_resume_needs_a_run_directory(here, refused):
    refused("train reals.npy --resume", "--resume needs the --run-dir to go on with")


def test_what_is_no_run_directory(here, refused):
    refused("train reals.npy --run-dir missing --resume", "missing is no run directory: .*config")
    (here / "theirs").mkdir()
    (here / "theirs" / "thesis.txt").write_text("not to be lost")
    refused("train reals.npy --run-dir theirs --resume", "theirs is no run directory")
    refused("train reals.npy --run-dir reals.npy --resume", "reals.npy is no run directory")


def test_a_run_that_is_there_is_not_written_over(run, refused):
    refused(f"{TRAIN} --run-dir run", "run is there already; go on with it by --resume, replace")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (write("config.json", b""), "config.json is damaged"),
        (write("config.json", b'{"format": 1, "opt'), "config.json is damaged"),
        (write("config.json", b"\xff\xfe"), "config.json is damaged"),
        (write("config.json", b"[]"), "config.json is damaged: it holds no JSON object"),
        (write("config.json", b"[" * 10**5), "config.json is damaged: it is nested too deeply"),
        (edit(format=2), "has format 2; this version of hvax reads format 1"),
        (edit(options=MISSING), "config.json is damaged"),
        (edit(options__train__seed="0"), "train.seed must be int, got '0'"),
        (edit(options__nonsense=1), "'nonsense', which this version of hvax does not know"),
        (edit(data__x_shape="wide"), "x_shape"),
    ],
)
def test_a_damaged_config_is_told(damage, message, run, refused):
    damage(run)
    refused(RESUME, message)


def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(run, first, capsys):
    """In one line; with --strict the exit code is 1."""
    for strict, code in (("", 0), (" --strict", 1)):
        newest = max(Path("run/checkpoints").glob("*.json"))
        interrupted_state = newest.read_bytes()
        older = newest.with_name(f"{1:012}.json")
        older.write_bytes(interrupted_state)
        newest.write_bytes(interrupted_state[:-3])
        assert program(RESUME + strict) == code
        out, err = capsys.readouterr()
        assert re.fullmatch(r"hvax: WARNING damaged-checkpoint: .*json is damaged.*\n", err)
        assert digest_of(out) == digest_of(first[1])


def test_two_damaged_checkpoints_are_an_error(run, capsys):
    for file in Path("run/checkpoints").glob("*.json"):
        file.write_bytes(b"{}")
    before = contents(run / "model")
    assert program(RESUME) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no checkpoint in run/checkpoints can be read" in err
    assert contents(run / "model") == before


def test_a_directory_that_another_process_holds(run, capsys):
    """It is left as it was; seen to fail on a config.json that took the options of the second."""
    with exclusive_lock(run):
        before = contents(run)
        for arguments in (f"{RESUME} --epochs 3", f"{TRAIN} --run-dir run --overwrite"):
            assert program(arguments) == 2
            assert "another process is writing to run" in capsys.readouterr().err
        assert contents(run) == before
    assert program(RESUME) == 0


def test_a_directory_of_a_run_that_was_killed_before_it_began(here):
    """It holds a lock and nothing else."""
    (here / "run").mkdir()
    with exclusive_lock(here / "run"):
        pass
    assert program(f"{TRAIN} --run-dir run") == 2
    assert program(f"{TRAIN} --run-dir run --overwrite") == 0


# Warnings


@pytest.mark.parametrize(("option", "code"), [("", 0), (" --strict", 1)])
def test_strict_turns_a_warning_into_an_exit_code(option, code, here, capsys):
    """Two draws are never ten effective ones: the run is done, and told of."""
    assert program(f"{TRAIN} --num-samples 2 --run-dir run{option}") == code
    out, err = capsys.readouterr()
    assert "WARNING untrusted-nll" in out and err == ""  # in the table alone
    assert Path("run/results.json").is_file()


def test_strict_without_a_warning(here, capsys):
    assert program(f"{TRAIN} --run-dir run --strict") == 0
    out, err = capsys.readouterr()
    assert "WARNING" not in out and err == ""


@pytest.mark.parametrize(("option", "code"), [("", 0), (" --strict", 1)])
def test_skipped_updates_are_told_in_lines_and_counted(option, code, here, capsys):
    """An outlier whose square overflows."""
    reals = np.load("reals.npy")
    reals[5] = 1e25
    np.save("outlier.npy", reals)
    arguments = TRAIN.replace("reals.npy", "outlier.npy").replace("--stand", "--no-stand")
    assert program(f"{arguments} --run-dir run --test-points 3{option}") == code
    out, err = capsys.readouterr()
    told = err.splitlines()
    assert 1 <= len(told) <= 2
    assert all(re.match(r"hvax: WARNING skipped-update: .* at step \d", line) for line in told)
    assert f"; {len(told)} updates skipped" in out
    assert [row["step"] for row in lines(Path("run/skipped.jsonl"))] == [
        int(re.search(r"at step (\d+)", line)[1]) for line in told
    ]
    assert read_json("run/results.json")["vae"]["skipped"] == len(told)


def test_too_many_skipped_updates_end_the_program(here, capsys):
    np.save("huge.npy", np.full((60, 3), 1e25) * np.arange(1, 61)[:, None])
    arguments = TRAIN.replace("reals.npy", "huge.npy").replace("--stand", "--no-stand")
    assert program(f"{arguments} --run-dir run --max-skipped 2") == 1
    err = capsys.readouterr().err
    one, end = err.splitlines()
    assert one.startswith("hvax: WARNING skipped-update: ")
    assert re.match(r"hvax: the loss .* at step 1 \(2 in a row\).*The run stops here", end)
    assert "Traceback" not in err and not Path("run/results.json").exists()


# The digest


def test_the_digest_is_that_of_the_seed(here, first, capsys):
    """Equal for the same seed, in another folder; another for another seed; and of the model."""
    _, out = first
    digests = []
    for seed in (0, 1):
        assert program(f"{TRAIN} --run-dir seed{seed} --seed {seed}") == 0
        digests.append(digest_of(capsys.readouterr().out))
    assert digests[0] == digest_of(out) != digests[1]
    assert digest(hvax.load("seed0/model"))[:16] == digests[0]
    assert read_json("seed1/results.json")["vae"]["weights"][:16] == digests[1]
