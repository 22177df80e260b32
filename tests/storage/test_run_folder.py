"""What a run finds in its folder when it begins: others' files stay as they are, what was lost is
told of, and a folder that was begun anew is not written to by the run before."""

import json
import os
import shutil

import numpy as np
import optax
import pytest

from hvax.storage.json_files import verify_checksum, with_checksum
from hvax.storage.lock import LOCK_FILE, FolderReplaced
from hvax.storage.run_folder import (
    BEFORE_FLOW,
    CHECKPOINTS,
    METRICS,
    PLAN,
    check_begin,
    read_plan,
    write_plan,
)
from hvax.training.fit import fit
from models_for_tests import linear_gaussian, moving

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
MODEL = linear_gaussian()
SGD = optax.sgd(0.05)


def train(folder, *, resume=False, model=MODEL, **options):
    defaults = {"epochs": 2, "batch_size": 6, "optimizer": SGD, "flow_from_epoch": 1}
    return fit(model, X, run_dir=folder, resume=resume, progress=False, **(defaults | options))


def contents(folder):
    """Every file and link, and every folder."""
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
    }


def put(name, content="mine"):
    def change(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return change


def link(name):
    def change(folder):
        elsewhere = folder.parent / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "000000000001-state-0123abcd.safetensors").write_text("mine")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(elsewhere)

    return change


LIGHTNING = '{"epoch": 1, "step": 4, "loss": 0.5}\n'
OTHERS = {
    "metrics": (put("metrics.jsonl"), "it holds metrics.jsonl|holds metrics.jsonl, and"),
    "metrics like ours": (put("metrics.jsonl", LIGHTNING), "holds metrics.jsonl"),
    "metrics, a link": (link("metrics.jsonl"), "holds metrics.jsonl"),
    "skipped": (put("skipped.jsonl", '{"step": 1, "epoch": 1}\n'), "holds skipped.jsonl"),
    "model": (put("model/structure.json"), "holds model|is not overwritten"),
    "checkpoints, a link": (link("checkpoints"), "checkpoints must be a folder, got a link to"),
    "model, a link": (link("model"), "model must be a folder, got a link to"),
    "checkpoints, a file": (put("checkpoints"), "checkpoints must be a folder, got a file"),
    "a checkpoint's name": (put("checkpoints/000000000002.json"), "holds a run already|can be rea"),
}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("others", OTHERS)
def test_files_of_others_are_refused_as_they_are(others, resume, tmp_path):
    """Nothing is made beside them either."""
    change, message = OTHERS[others]
    folder = tmp_path / "run"
    folder.mkdir()
    change(folder)
    before = contents(tmp_path)
    for _ in range(2):  # a refusal leaves nothing that the next one takes for its own
        with pytest.raises(ValueError, match=message):
            train(folder, resume=resume)
        after = contents(tmp_path)
        if others == "a checkpoint's name":
            after = {name: after[name] for name in before}
        assert after == before


def test_files_of_others_beside_a_run_stay(tmp_path):
    names = ["notes.txt", ".env", "results.json", "checkpoints/step-1.safetensors",
             "checkpoints/.hidden.json", "checkpoints/9.json", "model/notes.md"]  # fmt: skip
    for name in names:
        put(name)(tmp_path)
    train(tmp_path, save_steps=1)
    train(tmp_path, epochs=4, save_steps=1, resume=True)
    assert {name: (tmp_path / name).read_text() for name in names} == dict.fromkeys(names, "mine")


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "run").symlink_to("large")
    train(tmp_path / "run")
    assert (tmp_path / "large" / "metrics.jsonl").is_file()


def test_a_plan_is_checked_before_anything_is_written(tmp_path):
    changes = {
        "before": (put(f"{BEFORE_FLOW}/metrics.jsonl"), "before-flow must hold nothing"),
        "linked": (link(f"{BEFORE_FLOW}/checkpoints"), "checkpoints must be a folder"),
        "link": (link(BEFORE_FLOW), "before-flow must be a folder, got a link"),
        "plan": (put(PLAN, '{"my": "plan"}'), r"plan.json is damaged, or none of hvax's"),
    }
    for name, (change, message) in changes.items():
        folder = tmp_path / name / "run"
        folder.mkdir(parents=True)
        change(folder)
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=message):
            train(folder, model=moving(MODEL), flow_from_epoch=2)
        assert contents(tmp_path) == before


# What was lost


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("how", ["gone", "empty", "all but the lock"])
def test_a_run_that_lost_its_checkpoints_does_not_start_over(how, tmp_path):
    """Its model and its log are what is left of it."""
    train(tmp_path)
    checkpoints = tmp_path / "checkpoints"
    lock = checkpoints / LOCK_FILE
    shutil.rmtree(checkpoints)
    if how != "gone":
        checkpoints.mkdir()
    if how == "all but the lock":
        lock.touch()
    before = contents(tmp_path)
    message = (
        r"no checkpoint to resume from: .* holds model, and checkpoints/ is missing or empty\. "
    )
    with pytest.raises(
        ValueError, match=message + r"Put it back, or start anew in another run_dir"
    ):
        train(tmp_path, resume=True)
    with pytest.raises(ValueError, match="must hold nothing that a run would replace"):
        train(tmp_path)
    assert contents(tmp_path) == before
    (tmp_path / "model" / "structure.json").unlink()
    if how != "all but the lock":  # with it, it is a run that was killed before its first save
        with pytest.raises(ValueError, match=r"holds metrics\.jsonl, and checkpoints/ is missing"):
            train(tmp_path, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_killed_before_its_first_checkpoint_starts_again(resume, tmp_path):
    """With the lines of some epochs, the last cut short."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / LOCK_FILE).touch()
    line = {"epoch": 1, "step": 2, "loss": None, "seconds": 0.5}
    (tmp_path / "metrics.jsonl").write_text(lines(line, line | {"epoch": 2}) + '{"epoch": 3, "s')
    (tmp_path / "skipped.jsonl").write_text(lines({"step": 1, "epoch": 1, "examples": [3]}))
    assert len(train(tmp_path, resume=resume).history) == 2
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2
    assert (tmp_path / "skipped.jsonl").read_text().count("\n") == 0  # all is done again


def test_lost_epochs_before_a_flow_are_not_trained_again(tmp_path):
    options = {"model": moving(MODEL), "flow_from_epoch": 2}
    train(tmp_path, **options)
    shutil.rmtree(tmp_path / BEFORE_FLOW)
    with pytest.raises(ValueError, match=r"before-flow is missing or empty\. Put it back"):
        train(tmp_path, **options, resume=True)


def test_an_empty_folder_and_a_missing_one_are_begun(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        check_begin(folder, resume=True)
        check_begin(folder, resume=False)
    assert contents(tmp_path) == {}


# A plan


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"flow_from_epoch": "3"}', '{"flow_from_epoch": true}', '{"flow_from_epoch": 0}',
     '{"flow_from_epoch": 1.5}', '{"flow_from_epoch": 3, "a": 1}', "half", '{"flow_from_epoch": 1'
     + "0" * 400 + "}"],
)  # fmt: skip
def test_a_plan_of_another_form_is_told_by_its_file(content, tmp_path):
    (tmp_path / PLAN).write_text(content)
    for read in (read_plan, lambda path: write_plan(path, 2)):
        with pytest.raises(ValueError, match=r"plan\.json is damaged"):
            read(tmp_path)
    assert contents(tmp_path) == {str(tmp_path / PLAN): content.encode()}


def test_a_plan_is_kept_by_a_run_that_has_begun(tmp_path):
    write_plan(tmp_path, 3)
    write_plan(tmp_path, 2)  # nothing was trained by it
    train(tmp_path / BEFORE_FLOW)
    write_plan(tmp_path, 2)
    with pytest.raises(ValueError, match="another flow_from_epoch: 2 there, 3 here"):
        write_plan(tmp_path, 3)
    train(tmp_path / "other")
    with pytest.raises(ValueError, match="another flow_from_epoch: 1 there, 3 here"):
        write_plan(tmp_path / "other", 3)


def test_a_plan_is_not_changed_under_a_run_in_its_first_epochs(tmp_path):
    """Another process, with other options."""
    refusals = []

    def second(event):
        before = contents(tmp_path)
        with pytest.raises(ValueError, match="another process is writing to"):
            train(tmp_path, model=moving(MODEL), epochs=4, flow_from_epoch=3)
        refusals.append(contents(tmp_path) == before)

    options = {"model": moving(MODEL), "flow_from_epoch": 2}
    train(tmp_path, **options, callback=lambda event: event.epoch == 1 and second(event))
    assert refusals == [True] and read_plan(tmp_path) == 2


# A folder that was begun anew


@pytest.mark.parametrize("first", [1, 3])
def test_a_run_whose_folder_was_begun_anew_ends(first, tmp_path):
    """Its own files are gone, and the new run's are as if it had been alone."""
    run, options = tmp_path / "run", {"model": moving(MODEL), "flow_from_epoch": first, "epochs": 3}

    def anew(event):
        if event.epoch == 2:
            shutil.rmtree(run)
            train(run, **options, seed=1)

    with pytest.raises(FolderReplaced, match=r"must stay in its place .* begun anew by another"):
        train(run, **options, seed=0, callback=anew)
    train(tmp_path / "alone", **options, seed=1)
    ours, alone = (
        {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.suffix == ".safetensors"
        }
        for folder in (run, tmp_path / "alone")
    )
    assert ours == alone and len(ours) >= 3


def test_a_run_whose_folder_was_removed_ends_and_makes_none(tmp_path):
    def remove(event):
        shutil.rmtree(tmp_path / "run")

    with pytest.raises(FolderReplaced, match="removed, moved or begun anew"):
        train(tmp_path / "run", callback=remove)
    assert contents(tmp_path) == {}


def test_an_error_of_a_callback_is_what_is_raised(tmp_path):
    def fail(event):
        shutil.rmtree(tmp_path / "run")
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine") as raised:
        train(tmp_path / "run", callback=fail)
    assert "must stay in its place" in raised.value.__notes__[0]


# A position that no run has written

POSITIONS = {
    "gone": lambda record: record.pop("position"),
    "a list": lambda record: record.update(position=[]),
    "more": lambda record: record["position"].update(color=1),
    "epoch": lambda record: record["position"].update(epoch="2"),
    "epoch 0": lambda record: record["position"].update(epoch=0),
    "epoch, a flag": lambda record: record["position"].update(epoch=True),
    "done": lambda record: record["position"].update(done=10**9),
    "done before 0": lambda record: record["position"].update(done=-1),
    "sums": lambda record: record["position"].update(sums={"loss": None}),
    "sums, a list": lambda record: record["position"].update(sums=[1.0]),
    "history": lambda record: record["position"].update(history=[]),
    "no epoch": lambda record: record["position"]["history"][0].pop("epoch"),
    "a word": lambda record: record["position"]["history"][0].update(loss="low"),
    "another step": lambda record: record["position"].update(epoch=2, history=[{"epoch": 1}]),
    "bound": lambda record: record["position"].update(best_elbo="high"),
    "best": lambda record: record["position"].update(best_epoch=99),
    "seconds": lambda record: record["position"].update(seconds=-1.0),
    "infinite": lambda record: record["position"].update(compiling=float("inf")),
    "nan": lambda record: record["position"].update(seconds=float("nan")),
    "end": lambda record: record["position"].update(ended="later"),
    "end, a list": lambda record: record["position"].update(ended=["finished"]),
    "identity": lambda record: record.pop("identity"),
    "examples": lambda record: record["identity"].update(examples=12),
    "batch": lambda record: record["identity"].update(batch_size=0),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "run"
    return folder, train(folder, save_steps=1, epochs=3)


@pytest.mark.parametrize("position", POSITIONS)
def test_a_crafted_position_costs_the_steps_since_the_one_before(position, saved, tmp_path):
    """Behind a checksum that is right."""
    folder = shutil.copytree(saved[0], tmp_path / "run")
    newest, older = sorted((folder / "checkpoints").glob("*.json"), reverse=True)
    manifest = verify_checksum(newest.read_bytes())
    POSITIONS[position](manifest["record"])
    newest.write_bytes(with_checksum(manifest))
    with pytest.warns(UserWarning, match=rf"damaged-checkpoint: .*{newest.name} is damaged: "):
        again = train(folder, resume=True, epochs=3)
    assert again.history[-1]["loss"] == saved[1].history[-1]["loss"]
    if position == "gone":
        for file in (newest, older):
            file.write_bytes(with_checksum(manifest))
        with pytest.raises(ValueError, match=r"no checkpoint in .* can be read.*must have the pos"):
            train(folder, resume=True, epochs=3)


@pytest.mark.parametrize("what", ["a link to a log", "a log of another make"])
def test_a_log_that_is_not_ours_is_in_the_way(what, tmp_path):
    """Beside the lock of a run that was killed at its start; seen to fail by planted faults."""
    (tmp_path / CHECKPOINTS).mkdir()
    (tmp_path / CHECKPOINTS / ".lock").touch()
    theirs = tmp_path / "theirs.jsonl"
    theirs.write_text('{"epoch": 1, "loss": 2.0}\n')
    if what.startswith("a link"):
        (tmp_path / METRICS).symlink_to(theirs)
    else:
        (tmp_path / METRICS).write_text('{"accuracy": 0.5}\n{"epoch": 2, "loss": 1.0}\n')
    with pytest.raises(ValueError, match=r"holds metrics\.jsonl"):
        check_begin(tmp_path, resume=False)
    (tmp_path / METRICS).unlink()
    (tmp_path / METRICS).write_text(theirs.read_text())  # one of ours is no loss
    check_begin(tmp_path, resume=False)
