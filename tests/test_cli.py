"""The program: real runs, what they leave, and bad input told in a line before anything starts."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax import __version__, load
from hvax.cli import COMMANDS, main
from hvax.config import Train
from hvax.evaluation.table import UNTRUSTED
from hvax.models.hvae import HVAE
from hvax.models.vae import VAE
from hvax.storage.forms import write_record
from reports_for_tests import check_page
from settings_for_tests import but_slow

HVAX = str(Path(sys.executable).with_name("hvax"))
# Processes of their own, which compile quickly: half the time, the same numbers to rounding.
QUICK = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
CACHE = tempfile.TemporaryDirectory()  # compiled programs of these tests, and not the user's
ENV = {
    **os.environ, "COLUMNS": "80", "JAX_ENABLE_X64": "0", "XLA_FLAGS": QUICK,
    "XDG_CACHE_HOME": CACHE.name,
}  # fmt: skip
TINY = "--epochs 1 --hidden 8 --latent-size 2 --num-samples 5 --test-points 10 --batch-size 16"
VAE_ONLY = f"--model vae {TINY} --no-progress --no-report"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(arguments: str, folder: Path):
    """The installed program in a process of its own."""
    return subprocess.run(
        [HVAX, *arguments.split()], cwd=folder, env=ENV, capture_output=True, text=True
    )


def read_json(path: Path):
    """JSON as other programs read it: NaN and Infinity are no JSON."""

    def refuse(word):
        raise AssertionError(f"{path.name} holds {word}")

    return json.loads(path.read_text(), parse_constant=refuse)


def metrics(folder: Path):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# Help


def test_version(tmp_path):
    done = program("--version", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"hvax {__version__}\n", "")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_and_explains_every_option(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    out, err = capsys.readouterr()
    assert end.value.code == 0 and not err
    # The list of commands in the first line is one word to argparse, and one character too long.
    assert max(len(line) for line in out.splitlines() if not line.startswith("usage:")) <= 80
    if not command:
        assert all(name in out for name in COMMANDS)
        return
    # An option's help stands behind it, two spaces apart, or on the lines below.
    rows = [line.strip("│ ") for line in out.splitlines()]
    options = [i for i, row in enumerate(rows) if re.match("--?[a-z]", row)]
    assert len(options) >= 4
    for i in options:
        assert "  " in rows[i] or re.match(r"[^-─\s]", rows[i + 1]), rows[i]


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "train",
        "nonsense",
        "train digits --nonsense 1",
        "train digits --epochs ten",
        "train digits --likelihood normal",
        "train digits --fractions 0.5 0.5",
    ],
)
def test_wrong_usage_is_explained(arguments, here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    try:
        code = main(arguments.split())
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert code == 2 and not out and err
    # hvax's own errors are one line, whatever its length; tyro's are boxes.
    assert err.startswith("hvax: ") or max(len(line) for line in err.splitlines()) <= 80
    assert not list(here.iterdir())


# Runs


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """The documented first run, in a process of its own."""
    folder = tmp_path_factory.mktemp("digits")
    done = program(f"train digits {TINY} --run-dir out/first --num-steps 1", folder)
    assert done.returncode == 0, done.stderr
    return folder / "out" / "first", done


def test_a_run_leaves_the_files_that_are_documented(digits_run):
    folder, _ = digits_run
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock", "baseline", "checkpoints", "config.json", "metrics.jsonl", "model", "report.html",
        "results.json",
    ]  # fmt: skip
    assert {"metrics.jsonl", "model"} <= {path.name for path in (folder / "baseline").iterdir()}
    config = read_json(folder / "config.json")
    assert (config["format"], config["hvax"]) == (1, __version__)
    assert config["options"]["train"]["epochs"] == 1 and config["options"]["source"] == "digits"
    assert config["data"]["examples"] == {"train": 1437, "validation": 180, "test": 180}
    for part in (folder, folder / "baseline"):
        (epoch,) = metrics(part)
        assert (epoch["epoch"], epoch["step"]) == (1, 1437 // 16)
        assert -100 < epoch["validation_elbo"] < -20 and -100 < epoch["elbo"] < -20
    results = read_json(folder / "results.json")
    assert list(results) == ["independent", "vae", "hvae", "difference"]
    for row in (results["vae"], results["hvae"]):
        assert row["num_points"] == 10 and row["num_samples"] == 5
        assert (row["ended"], row["epochs"], row["best_epoch"]) == ("finished", 1, 1)
        assert row["nll"] < -row["elbo"] and row["non_finite"] == 0
    assert results["hvae"]["distance"] > 0 == results["vae"]["distance"]
    apart = results["hvae"]["nll"] - results["vae"]["nll"]
    assert results["difference"]["nll"] == pytest.approx(apart, abs=1e-9)
    assert 0 < results["difference"]["nll_se"] < results["vae"]["nll_se"]
    check_page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_run_tells_its_numbers(digits_run):
    folder, done = digits_run
    lines = done.stdout.splitlines()
    assert lines[0].startswith("digits: 1437 train, 180 validation, 180 test")
    rows = {line.split()[0]: line for line in lines if re.match(r"(VAE|DAIS) +-\d", line)}
    results = read_json(folder / "results.json")
    # Five draws are never ten effective ones.
    (advice,) = [i for i, line in enumerate(lines) if line.startswith(UNTRUSTED)]
    assert not results["hvae"]["trusted"]
    assert "    hvax evaluate out/first --num-samples 500" in lines[advice : advice + 5]
    apart = results.pop("difference")
    assert f"{apart['nll']:+.3f} +- {apart['nll_se']:.3f}" in done.stdout
    for name, shown in (("vae", "VAE"), ("hvae", "DAIS")):
        row = results[name]
        assert f"{row['elbo']:.2f} +- {row['elbo_se']:.2f}" in rows[shown]
        assert f"{row['nll']:.2f} +- {row['nll_se']:.2f}" in rows[shown]
    assert lines[-2:] == ["run directory: out/first", "report: out/first/report.html"]
    assert "nan" not in done.stdout and "Traceback" not in done.stderr


def test_the_models_of_a_run_open(digits_run):
    folder, _ = digits_run
    hvae, vae = load(folder / "model"), load(folder / "baseline" / "model")
    assert isinstance(hvae, HVAE) and isinstance(vae, VAE)
    assert hvae.flow.num_steps == 1 and hvae.flow.step_size.value.shape == ()
    x = jnp.zeros((8, 8))
    logits = eqx.filter_jit(lambda model: model(x, key=jax.random.key(0)))(hvae)
    assert logits.shape == vae.decoder(jnp.zeros(2)).shape == (8, 8)


@pytest.mark.parametrize(
    ("number", "code", "ended"),
    [
        (signal.SIGINT, 130, "interrupted"),
        pytest.param(signal.SIGTERM, 143, "terminated", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_with_what_it_has(number, code, ended, tmp_path):
    """A real SIGINT or SIGTERM, once there is an epoch: the exit code of the signal, a model, and a
    line that says how to go on."""
    command = f"train digits {VAE_ONLY} --epochs 1000000 --run-dir run"
    process = subprocess.Popen(
        [HVAX, *command.split()], cwd=tmp_path, env=ENV,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
    while not (log.is_file() and log.stat().st_size) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert f"{ended} after" in out and "Traceback" not in err
    assert "    hvax train digits --run-dir run --resume\n" in out
    assert not (tmp_path / "run" / "results.json").exists()
    assert isinstance(load(tmp_path / "run" / "model"), VAE)


@pytest.mark.slow
def test_a_second_run_finds_its_programs_compiled(tmp_path):
    """In the cache folder that the environment names; seconds of compiling as the run tells them.

    Seen: 2.1 s and 0.4 s."""
    seconds, env = [], {**ENV, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name in ("first", "second"):
        command = [HVAX, *f"train digits {VAE_ONLY} --run-dir {name}".split()]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        seconds.append(float(re.search(r"training, ([\d.]+) s compiling", done.stdout)[1]))
    assert list((tmp_path / "cache" / "hvax").iterdir())
    assert seconds[1] < 0.6 * seconds[0]
    rows = [read_json(tmp_path / name / "results.json")["vae"] for name in ("first", "second")]
    assert rows[0]["nll"] == rows[1]["nll"]


def write_files(folder: Path) -> None:
    """Good sources of 60 examples."""
    draw = np.random.default_rng(0)
    np.save(folder / "reals.npy", draw.normal(5.0, 300.0, (60, 4)))
    np.savez(folder / "two.npz", a=draw.poisson(5.0, (60, 4)), b=np.zeros(3), y=np.arange(60))
    np.save(folder / "images.npy", draw.integers(0, 256, (60, 28, 28)).astype(np.uint8))
    classes = "\n".join(",".join(map(str, row)) for row in draw.integers(0, 3, (60, 5)))
    (folder / "classes.csv").write_text("a,b,c,d,label\n" + classes + "\n")


RUNS = {
    "gaussian, standardized, x64": "reals.npy --standardize --x64",
    "negative binomial": "two.npz --array a --labels y --likelihood negative-binomial",
    "categorical": "classes.csv --labels label --likelihood categorical",
    "conv, poisson": "images.npy --network conv --likelihood poisson --num-samples 2",
}


@pytest.mark.parametrize(
    "name", but_slow(RUNS, keep=("gaussian, standardized, x64", "categorical"))
)
def test_sources_networks_and_likelihoods(name, tmp_path):
    write_files(tmp_path)
    source, *options = RUNS[name].split()
    done = program(f"train {source} {VAE_ONLY} {' '.join(options)} --run-dir run", tmp_path)
    # In two epochs a model may be worse than independent features, and is told so.
    told = [line for line in done.stderr.splitlines() if "worse-than-independent" not in line]
    assert (done.returncode, told) == (0, [])
    assert f"{source}: 48 train, 6 validation, 6 test" in done.stdout
    run = tmp_path / "run"
    assert np.isfinite(metrics(run)[0]["validation_elbo"])
    results = read_json(run / "results.json")
    row = results["vae"]
    assert results.keys() <= {"independent", "gaussian", "vae"} and np.isfinite(row["nll"])
    wide = "--x64" in options
    with jax.enable_x64(wide):
        leaves = jax.tree.leaves(load(run / "model"))
    assert {leaf.dtype for leaf in leaves} == {np.dtype("f8" if wide else "f4")}
    assert ((5, 5, 1, 16) in {leaf.shape for leaf in leaves}) == ("conv" in options)
    if "--standardize" in options:  # in nats of the raw data: 23 more than of the standardized
        assert 27 < row["nll"] < 40


def test_numbers_that_are_not_finite_are_json_to_every_reader(tmp_path):
    """One test point has no standard error, and integer classes no rms error."""
    write_record(tmp_path / "results.json", {"nll_se": float("nan"), "elbo": -float("inf")})
    read_json(tmp_path / "results.json")


# Bad input


def write_bad_files(folder: Path) -> None:
    whole = (folder / "reals.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[:-9])
    (folder / "text.npy").write_bytes(b"not an array")
    (folder / "cut.npz").write_bytes((folder / "two.npz").read_bytes()[:-40])
    (folder / "text.rtf").write_text("1,2\n")
    (folder / "ragged.csv").write_text("1,2\n3\n")
    (folder / "word.csv").write_text("1,2\n3,four\n")
    np.save(folder / "objects.npy", np.array([{}, []] * 30, object), allow_pickle=True)
    np.save(folder / "inf7.npy", np.where(np.arange(240.0).reshape(60, 4) == 7, np.inf, 0.5))
    np.save(folder / "inf.npy", np.full((60, 4), np.inf))
    np.save(folder / "complex.npy", np.ones((60, 4), complex))
    np.save(folder / "empty.npy", np.ones((0, 4)))
    np.save(folder / "three.npy", np.ones((3, 4)))
    np.save(folder / "negative.npy", np.arange(240).reshape(60, 4) - 1)
    np.save(folder / "halves.npy", np.full((60, 4), 0.5))
    mnist = folder / "data" / "mnist"
    mnist.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = bytes([0, 0, 8, 3]) + np.array([60_000, 28, 28], ">u4").tobytes()
        (mnist / f"{part}-images-idx3-ubyte").write_bytes(header + bytes(100))
        (mnist / f"{part}-labels-idx1-ubyte").write_bytes(header[:3] + b"\x01" + header[4:8])
    (folder / "taken").mkdir()
    (folder / "taken" / "thesis.txt").write_text("not to be lost")
    (folder / "file").write_text("")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    write_bad_files(folder)
    return folder


def trained(*_, **__):
    pytest.fail("it trained")


def listing(folder: Path):
    return sorted(str(path) for path in folder.rglob("*"))


BAD = [
    # The source
    ("no-such-source", "digits, mnist, fashion-mnist, binarized-mnist"),
    ("missing.npy", "missing.npy"),
    ("fashion-mnist", "--data-dir"),
    ("mnist", "truncated or damaged"),
    ("cut.npy", "cut.npy"),
    ("text.npy", "text.npy"),
    ("cut.npz --array a", "cut.npz"),
    ("text.rtf", ".npy, .npz, .csv"),
    ("data", "got a directory"),
    ("ragged.csv", "line 2"),
    ("word.csv --likelihood gaussian", r"line 2, column 1 \(1\)"),
    ("objects.npy", "objects"),
    ("complex.npy", "complex128"),
    ("empty.npy", "at least one example"),
    ("three.npy --batch-size 2", "at most the number of examples, 1, got 2"),
    ("three.npy --fractions 0.1 0.5 0.4", "enough examples"),
    ("inf7.npy", r"finite, got inf at index \(1, 3\)"),
    ("inf.npy", "finite, got inf"),
    ("two.npz", "a, b, y"),
    ("two.npz --array c", "a, b, y"),
    ("two.npz --array a --labels b", "labels"),
    ("reals.npy --array a", ".npz"),
    ("reals.npy --labels a", "labels"),
    ("digits --labels digits", "labels"),
    # Values and likelihoods
    ("reals.npy --likelihood bernoulli", r"data of a Bernoulli must be in \[0, 1\]"),
    ("negative.npy --likelihood poisson", "whole counts >= 0, got -1"),
    ("negative.npy --likelihood negative-binomial", "whole counts >= 0, got -1"),
    ("halves.npy --likelihood poisson", "whole counts >= 0, got 0.5"),
    ("halves.npy --likelihood categorical", "integer classes"),
    ("negative.npy --likelihood categorical", "classes 0 to 238"),
    ("classes.csv --labels label --likelihood categorical --num-classes 2", "classes 0 to 1"),
    ("reals.npy --likelihood fixed-gaussian --sigma 0", "sigma must be finite and > 0"),
    ("reals.npy --binarize static", "--binarize static is for the bernoulli"),
    # The split
    ("reals.npy --fractions 0.5 0.1 0.1", "sum to 1"),
    ("reals.npy --fractions 1.2 -0.1 -0.1", "none negative"),
    ("reals.npy --fractions 0.8 0.2 0", "leave test examples"),
    ("reals.npy --fractions 0.8 0 0.2", "leave validation examples"),
    ("reals.npy --split-seed -1", "seed must be >= 0"),
    # The model
    ("reals.npy --latent-size 0", "latent_size must be >= 1"),
    ("reals.npy --hidden 0", "each number of hidden must be >= 1"),
    ("reals.npy --hidden", "hidden must have at least one"),
    ("reals.npy --network conv", r"28 x 28 images.*\(4,\)"),
    ("images.npy --network conv --likelihood gaussian", "28 x 28 images with the likelihood"),
    # The flow
    ("reals.npy --num-steps -1", "num_steps must be >= 0"),
    ("reals.npy --beta0 0", r"--beta0 must be in \(0, 1\], got 0"),
    ("reals.npy --beta0 1.5", r"--beta0 must be in \(0, 1\], got 1.5"),
    ("reals.npy --beta0 nan", "--beta0 must be finite, got nan"),
    ("reals.npy --flow hvae --beta0 1", "strictly between"),
    ("reals.npy --step-size 0", "strictly between"),
    ("reals.npy --step-size -0.1 --no-learn-step-size", "step_size must be finite and > 0"),
    ("reals.npy --step-size 1.5", "its upper bound 1.5"),
    ("reals.npy --step-size 0.1 --max-step 0.1", "its upper bound 0.1"),
    ("reals.npy --max-step -1", "upper must be finite and > 0"),
    # The training
    ("reals.npy --epochs 0", "epochs must be >= 1"),
    ("reals.npy --batch-size 0", "batch_size must be >= 1"),
    ("reals.npy --batch-size 49", "at most the number of examples, 48, got 49"),
    ("reals.npy --patience -1", "patience must be >= 0"),
    ("reals.npy --save-seconds 0", "save_seconds must be > 0"),
    ("reals.npy --save-seconds nan", "--save-seconds must be finite, got nan"),
    ("reals.npy --max-skipped 0", "max_skipped must be >= 1"),
    ("reals.npy --learning-rate 0", "--learning-rate must be finite and > 0"),
    ("reals.npy --learning-rate nan", "--learning-rate must be finite, got nan"),
    ("reals.npy --learning-rate inf", "--learning-rate must be finite, got inf"),
    ("reals.npy --seed -1", "--seed must be"),
    ("reals.npy --seed 99999999999999999999999", "--seed must be"),
    ("reals.npy --num-samples 0", "--num-samples must be >= 1, got 0"),
    ("reals.npy --test-points 0", "--test-points must be >= 1, got 0"),
    ("reals.npy --train-samples 0", "--train-samples must be >= 1, got 0"),
    ("reals.npy --clip 1", "--clip must be finite and > 1, or 0, got 1.0"),
    ("reals.npy --flow-from-epoch 0", "--flow-from-epoch must be >= 1, got 0"),
    ("reals.npy --flow-from-epoch 4 --epochs 3", "at most --epochs, 3, got 4"),
    ("reals.npy --eta 1.5", r"--eta must be in \[0, 1\], got 1.5"),
    ("reals.npy --leapfrog-steps 0", "leapfrog_steps must be >= 1, got 0"),
    ("reals.npy --warm-start nowhere", "nowhere"),
    # Where it is written
    ("reals.npy --run-dir taken", "taken is there already; go on with it by --resume"),
    ("reals.npy --run-dir taken --overwrite", "taken is no run of hvax's"),
    ("reals.npy --run-dir file --overwrite", "file is no run of hvax's"),
    ("reals.npy --run-dir file/run", "file"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_told_in_one_line_before_any_write(
    arguments, message, files, monkeypatch, capsys
):
    monkeypatch.chdir(files)
    monkeypatch.setattr("hvax.commands.train.train_models", trained)
    before = listing(files)
    code = main(["train", *TINY.split(), "--no-progress", *arguments.split()])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("hvax: ") and err.count("\n") == 1 and err.endswith("\n")
    assert re.search(message, err), err
    assert listing(files) == before


def test_overwrite_does_not_replace_a_folder_of_somebody_elses(here, monkeypatch):
    write_files(here)
    (here / "theirs").mkdir()
    (here / "theirs" / "config.json").write_text('{"model_type": "bert"}')
    (here / "theirs" / "thesis.txt").write_text("not to be lost")
    monkeypatch.setattr("hvax.commands.train.train_models", trained)
    try:
        main([*f"train reals.npy {TINY}".split(), "--run-dir", "theirs", "--overwrite"])
    finally:
        assert (here / "theirs" / "thesis.txt").is_file()


def test_ctrl_c_outside_the_loop_is_no_traceback(monkeypatch, capsys):
    """While data are read, or a model is scored."""

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, "train", (Train, interrupted))
    try:
        code = main(["train", "digits"])
    except KeyboardInterrupt:
        pytest.fail("a traceback")
    assert code == 130 and "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["train no-such-source", "train inf.npy --run-dir run"])
def test_the_program_itself_refuses_bad_input(arguments, files):
    before = listing(files)
    done = program(arguments, files)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("hvax: ")
    assert listing(files) == before


@pytest.mark.parametrize(
    "arguments", ["--version", "train --help", f"train digits {VAE_ONLY} --run-dir run"]
)
def test_a_reader_who_leaves_is_left(arguments, here):
    """`hvax ... | head`: seen to fail with "Broken pipe" on the standard error."""
    process = subprocess.Popen(
        [HVAX, *arguments.split()], cwd=here, env=ENV, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 128 + signal.SIGPIPE)
    process.stderr.close()
