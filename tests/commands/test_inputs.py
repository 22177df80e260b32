"""What every command takes and where it writes: bad data and options cost nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hvax.cli import main
from hvax.data import load_source
from hvax.evaluation import latent
from hvax.evaluation.latent import Encoding
from runs_for_tests import (
    COMMANDS,
    FEW,
    ON_OTHER_DATA,
    ON_OWN_DATA,
    SMALL,
    bits,
    contents,
    edit,
    load_npz,
    on_run,
    read_json,
    untrained,
)


@pytest.mark.parametrize("command", ON_OWN_DATA)
def test_data_that_have_moved_are_found(command, here, refused, monkeypatch):
    def moved(source, *, data_dir, **_):
        raise FileNotFoundError(f"looked in {data_dir}")

    monkeypatch.setattr("hvax.pipeline.reading.load_source", moved)
    arguments = on_run(command)
    refused(f"{arguments} --data-dir there", "looked in there")
    before = read_json(here / "run" / "config.json")["options"]["data"]["data_dir"]
    refused(arguments, f"looked in {before}")


@pytest.mark.parametrize("source", ["", "two.npz", "folder/../two.npz", "one.npz", "digits"])
def test_sources_beside_a_run_on_named_arrays(source, here, ran, monkeypatch):
    """The names are kept for the run's own file, however it is called, and for no other."""

    def rows(model, data, **_):
        x = data[:]
        return Encoding(x, x, x[:, None], x)

    monkeypatch.setattr("hvax.commands.latent.encode", rows)
    (here / "folder").mkdir()
    np.savez("two.npz", a=bits(50), b=np.zeros(3), y=np.arange(50))
    np.savez("one.npz", other=bits(20))
    untrained(f"two.npz --array a --labels y --likelihood bernoulli {SMALL}")
    ran(f"encode other {source} --out z.npz --no-progress")
    found = load_npz("z.npz")
    labels = found.get("labels")
    if source == "one.npz":
        np.testing.assert_array_equal(found["mean"], bits(20))
        assert labels is None
    elif source == "digits":
        assert found["mean"].shape == (1797, 8, 8) and set(np.unique(found["mean"])) == {0, 1}
        np.testing.assert_array_equal(labels, load_source("digits").labels)
    else:
        assert len(labels) == (50 if source else 5)
        np.testing.assert_array_equal(found["mean"], bits(50)[labels])


def csv_file(name, columns, n=40, **cells):
    """A .csv of these columns: numbers by their name, and text that `cells` has."""
    numbers = {c: np.random.default_rng(ord(c[0])).normal(size=n) for c in columns}
    lines = [",".join(columns)]
    lines += [
        ",".join(
            cells[c][i % len(cells[c])] if c in cells else f"{numbers[c][i]:.6f}" for c in columns
        )
        for i in range(n)
    ]
    Path(name).write_text("\n".join(lines) + "\n")


KINDS = ["lark", "wren", "crow"]
LAYOUTS = [  # columns of another file, options, and its labels
    ("abc+kind", "", KINDS[:3]),  # as in training
    ("abc", "", None),
    ("kind+cba", "", KINDS),
    ("kind+cba+site", "", KINDS),
    ("abc+site", "", None),
    ("abc+site", "--labels site", ["x", "y"]),
    ("abc+kind+site", "--labels site", ["x", "y"]),
    ("abc+kind", "--labels -1", KINDS),
]


@pytest.mark.parametrize(("layout", "options", "labels"), LAYOUTS)
def test_new_tables_in_the_layout_of_the_training(layout, options, labels, here, ran):
    """The labels are remembered where the file has them; columns go by their names."""
    csv_file("old.csv", [*"abc", "kind"], kind=KINDS)
    untrained(f"old.csv --labels kind {SMALL}")
    columns = [
        c for part in layout.split("+") for c in (part if part in ("abc", "cba") else [part])
    ]
    csv_file("new.csv", columns, n=24, kind=KINDS, site=["x", "y"])
    ran(f"encode other new.csv {options} --no-progress --out new.npz")
    csv_file("plain.csv", list("abc"), n=24)
    ran("encode other plain.csv --no-progress --out plain.npz")
    found, plain = load_npz("new.npz"), load_npz("plain.npz")
    np.testing.assert_array_equal(found["mean"], plain["mean"])
    assert ("labels" in found) == (labels is not None)
    if labels is not None:
        assert found["labels"].tolist() == [labels[i % len(labels)] for i in range(24)]
    for command in ("evaluate", "reconstruct"):
        arguments = COMMANDS[command].format(f"other new.csv {options}")
        ran(f"{arguments} --overwrite")


def test_tables_without_a_header_go_by_place(here, ran):
    chance = np.random.default_rng(0)
    rows = np.column_stack([np.arange(30) % 3, chance.normal(size=(30, 3))])
    np.savetxt("old.csv", rows, delimiter=",", fmt="%.6f")
    untrained(f"old.csv --labels 0 {SMALL}")
    np.savetxt("with.csv", rows[:9], delimiter=",", fmt="%.6f")
    np.savetxt("without.csv", rows[:9, 1:], delimiter=",", fmt="%.6f")
    for name in ("with", "without"):
        ran(f"encode other {name}.csv --no-progress --out {name}.npz")
    found, bare = load_npz("with.npz"), load_npz("without.npz")
    np.testing.assert_array_equal(found["mean"], bare["mean"])
    assert "labels" not in bare and len(found["labels"]) == 9


@pytest.mark.parametrize(
    ("arrays", "options", "has_labels"),
    [
        ("a y", "", True),
        ("a y z", "", True),
        ("a", "", False),
        ("b", "", False),
        ("b c", "--array b", False),
        ("b c y", "--array b --labels y", True),
        ("b y", "", True),
    ],
)
def test_new_archives_in_the_layout_of_the_training(arrays, options, has_labels, here, ran):
    np.savez("old.npz", a=bits(40), y=np.arange(40))
    untrained(f"old.npz --array a --labels y --likelihood bernoulli {SMALL}")
    held = {"a": bits(10), "b": bits(10), "c": bits(10), "y": np.arange(10), "z": np.zeros(3)}
    np.savez("new.npz", **{name: held[name] for name in arrays.split()})
    ran(f"encode other new.npz {options} --no-progress --out out.npz")
    found = load_npz("out.npz")
    assert ("labels" in found) == has_labels and len(found["mean"]) == 10


def test_rows_that_are_left_out_are_told(here, ran):
    csv_file("old.csv", list("abc"))
    untrained(f"old.csv {SMALL} --missing drop")
    lines = Path("old.csv").read_text().splitlines()
    lines[3] = lines[3].split(",", 1)[0] + ",,1.5"
    Path("new.csv").write_text("\n".join(lines) + "\n")
    out = ran("encode other new.csv --no-progress --out new.npz")
    assert out.startswith(
        "note: left out 1 of 40 rows with missing cells: b (1)\nnew.npz: mean (39,"
    )


def test_labels_of_the_runs_own_data_by_another_name(here, ran):
    csv_file("old.csv", [*"abc", "kind", "site"], kind=KINDS, site=["x", "y"])
    untrained(f"old.csv --labels kind {SMALL}")
    ran("encode other --no-progress --out kind.npz")
    ran("encode other --labels site --no-progress --out site.npz")
    kind, site = load_npz("kind.npz"), load_npz("site.npz")
    np.testing.assert_array_equal(kind["mean"], site["mean"])
    assert set(kind["labels"]) <= set(KINDS) and set(site["labels"]) == {"x", "y"}


def test_a_report_with_other_labels(here, ran, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "hvax.commands.report.report_on", lambda run, test, labels, path: shown.append(labels)
    )
    csv_file("old.csv", [*"abc", "kind", "site"], kind=KINDS, site=["x", "y"])
    untrained(f"old.csv --labels kind {SMALL}")
    ran("report other")
    ran("report other --labels site")
    assert set(shown[0]) <= set(KINDS) and set(shown[1]) == {"x", "y"}


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "poisson"])
@pytest.mark.parametrize("binarize", ["", "--binarize static"])
def test_a_file_counts_in_the_runs_own_gray_levels(likelihood, binarize, here, ran, monkeypatch):
    """0 to 16 in digits, whose white is not the 255 of other files of bytes."""

    def rows(model, data, **_):
        x = data[:]
        return Encoding(x, x, x[:, None], x)

    if binarize and likelihood != "bernoulli":
        pytest.skip("only bits are drawn")
    monkeypatch.setattr("hvax.commands.latent.encode", rows)
    untrained(f"digits --likelihood {likelihood} {binarize} {SMALL}")
    np.save("same.npy", load_source("digits").x)
    ran("encode other same.npy --out same.npz --no-progress")
    ran("encode other digits --out digits.npz --no-progress")
    found, expected = load_npz("same.npz")["mean"], load_npz("digits.npz")["mean"]
    np.testing.assert_array_equal(found, expected)
    assert expected.max() == (16 if likelihood == "poisson" else 1)


@pytest.mark.parametrize("command", [*COMMANDS.values(), f"evaluate {{}} {FEW}"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_output_is_written_whole_or_not_at_all(command, error, here, monkeypatch, capsys):
    def fail(_):
        raise error

    # A valid one, which no failure may touch.
    record = read_json("run/results.json")["hvae"]
    (here / "run" / "evaluation.json").write_text(json.dumps(record))
    before = contents(here)
    monkeypatch.setattr("hvax.storage.files.os.fsync", fail)
    monkeypatch.setattr("hvax.report.report.page_of", lambda *_, **__: "<!doctype html>")
    full = isinstance(error, OSError)
    assert main(command.format("run").split()) == (2 if full else 130)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and ("No space left" if full else "interrupted") in err
    assert contents(here) == before


def write_data(folder: Path) -> None:
    np.save(folder / "ok.npy", bits(20))
    np.save(folder / "vectors.npy", np.zeros((5, 64), np.float32))
    np.save(folder / "nan.npy", np.where(np.arange(320).reshape(5, 8, 8) == 70, np.inf, 0.5))
    np.save(folder / "above.npy", np.full((5, 8, 8), 1.5))
    np.save(folder / "below.npy", np.full((5, 8, 8), -1))
    np.save(folder / "none.npy", np.zeros((0, 8, 8)))
    np.savez(folder / "two.npz", a=bits(5), b=bits(5))
    (folder / "text.npy").write_bytes(b"not an array")


BAD_DATA = [
    ("no-such-source", "digits, mnist, fashion-mnist, binarized-mnist"),
    ("missing.npy", "missing.npy"),
    ("mnist", "--data-dir"),
    ("vectors.npy", r"run was trained on examples of shape \(8, 8\), vectors.npy has \(64,\)"),
    ("nan.npy", r"finite, got inf at index \(1, 0, 6\)"),
    ("above.npy", r"data of a Bernoulli must be in \[0, 1\], got 1.5"),
    ("below.npy", r"data of a Bernoulli must be in \[0, 1\], got -1"),
    ("none.npy", "at least one example"),
    ("two.npz", "a, b"),
    ("text.npy", "text.npy"),
]


@pytest.mark.parametrize(("source", "message"), BAD_DATA)
def test_bad_data_are_told_by_every_command(source, message, here, refused):
    write_data(here)
    for command in ON_OTHER_DATA:
        refused(COMMANDS[command].format(f"run {source}"), message)


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_binarizing_does_not_hide_data_outside_the_support(binarize, here, refused):
    write_data(here)
    edit(options__data__binarize=binarize)(here / "run")
    for source in ("above.npy", "below.npy"):
        refused(
            COMMANDS["encode"].format(f"run {source}"), r"data of a Bernoulli must be in \[0, 1\]"
        )
        options = f"--likelihood bernoulli --binarize {binarize} --no-progress --run-dir new"
        refused(f"train {source} {options}", r"data of a Bernoulli must be in \[0, 1\]")


@pytest.mark.parametrize("command", ON_OWN_DATA)
def test_a_runs_own_file_that_is_another_now(command, here, refused):
    np.save("ok.npy", bits(20))
    untrained(f"ok.npy --likelihood bernoulli {SMALL}")
    np.save("ok.npy", np.zeros((20, 3), np.float32))
    refused(on_run(command, "other"), r"trained on .* shape \(8, 8\), .*ok.npy has \(3,\)")
    (here / "ok.npy").unlink()
    refused(on_run(command, "other"), "ok.npy")


BAD_OPTIONS = [
    ("evaluate run --num-samples 0", "--num-samples must be >= 1, got 0"),
    ("evaluate run --num-samples -1", "--num-samples must be >= 1, got -1"),
    ("evaluate run --points 0", "--points must be >= 1, got 0"),
    ("evaluate run --ais --ais-points 0", "--ais-points must be >= 1, got 0"),
    ("evaluate run --ais --ais-temperatures 0", "--ais-temperatures must be >= 1, got 0"),
    ("evaluate run --ais --ais-chains 0", "--ais-chains must be >= 1, got 0"),
    ("evaluate run --ais --ais-leapfrog 0", "--ais-leapfrog must be >= 1, got 0"),
    ("encode run --weights 0", "--weights must be >= 1, got 0"),
    ("encode run --weights -2", "--weights must be >= 1, got -2"),
    ("sample run -n 0", "--n must be >= 1, got 0"),
    ("sample run -n -4", "--n must be >= 1, got -4"),
    ("sample run --mixture 0", "--mixture must be >= 1, got 0"),
    ("sample run --mixture 1438", "--mixture must be at most 1437, the points .*, got 1438"),
    ("sample run --mixture 2 --between 0 1", "--between and --mixture"),
    ("sample run --between 0 180", "two indices of test examples, 0 to 179, got 0 180"),
    ("sample run --between -1 3", "two indices of test examples, 0 to 179, got -1 3"),
    ("sample run --between 0 1 -n 1", "--between needs both its ends: -n must be >= 2, got 1"),
    ("encode run --array a", "--array is for other data than the run's own"),
    ("encode run --labels digit", "must be None with the source 'digits'"),
    # Where it is written
    ("evaluate run --per-point file.npy", "file.npy is there already; .* or use --overwrite"),
    ("encode run --out folder.npz --overwrite", "folder.npz is there already; .* remove it"),
    ("evaluate run --per-point new.txt", "must end in .npy or .npz, got new.txt"),
    ("encode run --out file.npz", "file.npz is there already"),
    ("encode run --out folder.npz", "folder.npz is there already"),
    ("encode run --out none/z.npz", "the folder none does not exist; make it first"),
    ("encode run --out file.npz/z.npz", "the folder file.npz does not exist"),
    ("encode run --out z.npy", "must end in .npz, got z.npy"),
    ("encode run --out z", "must end in .npz, got z"),
    ("reconstruct run --out file.png", "file.png is there already"),
    ("reconstruct run --out r.jpg", "must end in .npy or .npz or .csv or .png, got r.jpg"),
    ("reconstruct run --out none/r.npy", "the folder none does not exist"),
    ("sample run --out file.npy", "file.npy is there already"),
    ("sample run --out s.npz", "must end in .npy or .csv or .png, got s.npz"),
    ("sample run --out none/s.npy", "the folder none does not exist"),
    ("report run", "run/report.html is there already; give another name or use --overwrite"),
    ("report run --out file.html", "file.html is there already; .* or use --overwrite"),
    ("report run --out folder.html --overwrite", "folder.html is there already; .* remove it"),
    ("report run --out report.pdf", "must end in .html, got report.pdf"),
    ("report run --out none/report.html", "the folder none does not exist"),
    *[
        (f"{command} run --seed {seed}", r"--seed must be in \[0, 2\*\*32\), got")
        for command in ("evaluate", "encode", "reconstruct", "sample")
        for seed in (-1, 2**32, 10**30)
    ],
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD_OPTIONS)
def test_bad_options_are_told_before_any_work(arguments, message, here, refused):
    for name in ("file.npy", "file.npz", "file.png", "file.html", "run/report.html"):
        (here / name).write_text("not to be lost")
    for name in ("folder.npz", "folder.html"):
        (here / name).mkdir()
    refused(arguments, message)


@pytest.mark.slow
def test_the_program_itself(here):
    """In processes of its own, with progress bars, which leave the output alone."""
    hvax = Path(sys.executable).with_name("hvax")
    env = os.environ | {"JAX_ENABLE_X64": "0", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    env |= {"XDG_CACHE_HOME": str(here / "cache")}  # compiled programs, and not the user's
    good, bad = (
        subprocess.run([hvax, *arguments.split()], env=env, capture_output=True, text=True)
        for arguments in ("encode run --out z.npz", "sample nowhere")
    )
    assert good.returncode == 0 and "Traceback" not in good.stderr
    shapes = "mean (180, 2), sigma (180, 2), z (180, 2), row (180,), labels (180,)"
    assert good.stdout == f"z.npz: {shapes}\n"
    assert load_npz("z.npz")["z"].shape == (180, 2)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("hvax: nowhere is no run") and bad.stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_overwrite_replaces_the_file_that_is_there(command, here, ran, monkeypatch):
    monkeypatch.setattr(
        "hvax.commands.report.write_page", lambda report, path, key: path.write_text("new")
    )
    arguments = COMMANDS[command].format("run")
    name = arguments.split()[-1]
    (here / name).write_text("old")
    ran(f"{arguments} --overwrite")
    assert (here / name).read_bytes() != b"old"


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_draws_that_fail_are_told_and_counted(command, here, monkeypatch, capsys):
    """With --strict the exit code is 1, and the file is written all the same."""
    name = {"encode": "_encode", "reconstruct": "_reconstruct"}[command]
    own = getattr(latent, name)

    def failing(*arguments):
        made = own(*arguments)
        if command == "reconstruct":
            return made.at[0].set(np.nan)
        return (*made[:2], made[2].at[0].set(np.nan), made[3])

    monkeypatch.setattr(f"hvax.evaluation.latent.{name}", failing)
    arguments = COMMANDS[command].format("run")
    assert main(f"{arguments} --strict".split()) == 1
    assert "WARNING failed-draws: " in capsys.readouterr().err
    assert main(f"{arguments} --overwrite".split()) == 0
