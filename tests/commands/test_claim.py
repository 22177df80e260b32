"""A run directory is made, replaced and resumed: other files in it stay, what was lost is reported,
and two runs never mix."""

import os
import re
import shutil
from pathlib import Path

import pytest

from hvax.cli import main
from hvax.storage.lock import LOCK_FILE, exclusive_lock
from hvax.storage.run_files import copy_training, is_empty, remove_run
from hvax.storage.temporary import create_temporary
from hvax.training.validation import Validation
from runs_for_tests import contents, read_json

TRAIN = (
    "train digits --epochs 2 --hidden 4 --latent-size 2 --num-samples 5 --test-points 4 --num-steps"
    " 1 --batch-size 300 --no-progress --no-report --flow-from-epoch 1"
)


def refused(arguments, message, capsys, folder):
    before = contents(folder)
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"hvax: .+\n", err) and re.search(message, err), err
    assert contents(folder) == before


def put(name):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("mine")


# What is replaced


def test_a_run_is_taken_away_and_nothing_else(here):
    """From every folder of it."""
    theirs = ["notes.txt", "checkpoints/step-1.safetensors", "checkpoints/.env", "model/notes.md",
              "model/weights-mine.safetensors", "model/weights-0123456789abcdef.safetensors",
              "baseline/thesis.txt", "baseline/model/a.txt", "before-flow/x.csv"]  # fmt: skip
    for name in theirs:
        put(f"run/{name}")
    os.close(create_temporary(here / "run" / "model")[1])
    with exclusive_lock(here / "run"):
        remove_run(here / "run")
    left = {p.relative_to("run").as_posix() for p in Path("run").rglob("*") if not p.is_dir()}
    assert left == {*theirs, "config.json", LOCK_FILE}
    assert all((here / "run" / name).read_text() == "mine" for name in theirs)


def test_a_whole_run_leaves_no_folder_behind(here):
    with exclusive_lock(here / "run"):
        remove_run(here / "run")
    assert {path.name for path in Path("run").iterdir()} == {LOCK_FILE, "config.json"}


def test_a_damaged_run_is_replaced(here):
    """What is proven its own goes, and the rest is in nobody's way."""
    for name in (
        "model/structure.json",
        "checkpoints/*.json",
        "baseline/checkpoints/*.safetensors",
    ):
        for file in Path("run").glob(name):
            file.write_bytes(file.read_bytes()[:-3])
    assert main([*TRAIN.split(), *["--model", "vae", "--run-dir", "run", "--overwrite"]]) == 0
    assert read_json("run/results.json")["vae"]["epochs"] == 2
    assert len(list(Path("run").rglob("weights-*"))) == 1


def test_nothing_is_removed_from_a_run_with_a_link(here):
    """Put there after the run was looked at."""
    (here / "run" / "baseline" / "model").rename(here / "elsewhere")
    (here / "run" / "baseline" / "model").symlink_to(here / "elsewhere")
    before = contents(here)
    with exclusive_lock(here / "run"), pytest.raises(ValueError, match="model must be a folder"):
        remove_run(here / "run")
    assert {name for name in contents(here) if not name.endswith(LOCK_FILE)} >= {
        name for name in before if not name.endswith(LOCK_FILE)
    }


@pytest.mark.parametrize("name", ["checkpoints", "model", "baseline", "before-flow",
                                  "baseline/checkpoints", "baseline/model"])  # fmt: skip
def test_a_link_within_a_run_is_not_followed(name, here, capsys):
    """To a folder of the same files."""
    folder = here / "run" / name
    if folder.exists():
        folder.rename(here / "elsewhere")
    else:
        (here / "elsewhere").mkdir()
    folder.symlink_to(here / "elsewhere")
    for arguments in (f"{TRAIN} --run-dir run --overwrite", "train digits --run-dir run --resume"):
        refused(arguments, f"{name} must be a folder, got a link to .*elsewhere", capsys, here)


def test_a_run_that_a_library_trains_in_is_not_replaced(here, capsys):
    with exclusive_lock(here / "run" / "checkpoints"):
        refused(f"{TRAIN} --run-dir run --overwrite", "another process is writing to", capsys, here)


def test_a_baseline_begins_beside_files_of_others(here):
    other = here / "run" / "baseline"
    put("new/notes.txt")
    put("new/model/notes.md")
    copy_training(here / "new", other)
    expected = {p.relative_to(other): p.read_bytes() for p in other.rglob("*") if p.is_file()}
    found = {p.relative_to("new"): p.read_bytes() for p in Path("new").rglob("*") if p.is_file()}
    theirs = {Path("notes.txt"): b"mine", Path("model/notes.md"): b"mine"}
    copied = {name: content for name, content in expected.items() if name.name != LOCK_FILE}
    assert found == copied | theirs
    assert not list(here.glob(".hvax*"))
    before = contents(here)
    copy_training(here / "new", other)  # it has begun
    assert contents(here) == before


# A run that was killed before it began


def test_what_a_kill_leaves_at_the_first_flush_is_begun(here, capsys):
    """A lock and a temporary file."""
    Path("new").mkdir()
    with exclusive_lock(Path("new")):
        os.close(create_temporary(Path("new"))[1])
    assert is_empty(Path("new"))
    refused(f"{TRAIN} --run-dir new", "new is there already, and holds no run; .*--overwr", capsys,
            here)  # fmt: skip
    refused("train digits --run-dir new --resume", "Begin one in it by --overwrite", capsys, here)
    assert main([*TRAIN.split(), *["--model", "vae", "--run-dir", "new", "--overwrite"]]) == 0
    assert not list(Path("new").glob(".hvax*"))


# What was lost


@pytest.mark.parametrize("folder", ["run", "run/baseline"])
def test_a_run_without_its_checkpoints_is_not_begun_anew(folder, here, capsys):
    shutil.rmtree(f"{folder}/checkpoints")
    message = rf"{folder} has no checkpoint to resume from: .*checkpoints/ is missing .*--overwrite"
    refused("train digits --run-dir run --resume", message, capsys, here)


# Two runs


def test_a_run_that_was_begun_anew_meanwhile_ends_with_a_message(tmp_path, monkeypatch, capsys):
    """Model, results and config are of the second."""
    monkeypatch.chdir(tmp_path)
    call, epochs = Validation.__call__, []

    def anew(self, model):
        epochs.append(1)
        if len(epochs) == 2:
            shutil.rmtree("run")
            Path("run").mkdir()
            Path("run", "config.json").write_text("theirs")
            Path("run", LOCK_FILE).touch()
        return call(self, model)

    monkeypatch.setattr(Validation, "__call__", anew)
    assert main([*TRAIN.split(), *["--model", "vae", "--run-dir", "run"]]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"hvax: .*must stay in its place .* begun anew by another process.*\n", err)
    assert {p.name for p in Path("run").rglob("*")} == {"config.json", LOCK_FILE}
    assert Path("run/config.json").read_text() == "theirs"


def test_a_run_that_ended_in_between_is_not_replaced(here, monkeypatch, capsys):
    """Another process ends its run after this one has looked, and before it holds the folder."""
    from hvax.commands import directory

    check = directory.check_no_links
    (here / "run").rename(here / "done")

    def late(path):
        check(path)
        (here / "done").rename(path)

    monkeypatch.setattr(directory, "check_no_links", late)
    assert main([*TRAIN.split(), "--run-dir", "run"]) == 2
    assert "run is there already; go on with it by --resume" in capsys.readouterr().err
    assert (here / "run" / "results.json").is_file()
