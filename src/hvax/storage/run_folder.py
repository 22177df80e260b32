"""The folder of a run: its files by name, and whether a run may begin or continue in it.

What a training writes (hvax.fit with run_dir):

    folder/metrics.jsonl   one JSON object per epoch
    folder/skipped.jsonl   one JSON object per skipped update
    folder/model/          the best model so far (hvax.load opens it)
    folder/checkpoints/    all that the run needs to continue
    folder/before-flow/    the same of the epochs before a flow is turned on
    folder/plan.json       the epoch in which it is

What the program adds:

    folder/config.json     every option, what was read, versions
    folder/results.json    the final table
    folder/evaluation.json what `hvax evaluate` printed last
    folder/report.html     the page to look at
    folder/baseline/       the plain VAE of the same networks, as a run of its own
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hvax.storage.checkpoint import Checkpoints
from hvax.storage.files import append, write_atomically
from hvax.storage.json_files import dumps, read_json
from hvax.storage.lock import LOCK_FILE, exclusive_lock
from hvax.storage.logs import METRICS, SKIPPED, read_log
from hvax.storage.structure import STRUCTURE
from hvax.wording import words

MODEL, CHECKPOINTS, BEFORE_FLOW, PLAN = "model", "checkpoints", "before-flow", "plan.json"
CONFIG, RESULTS, EVALUATION = "config.json", "results.json", "evaluation.json"
REPORT, BASELINE = "report.html", "baseline"


class RunFolder:
    """The files of one training, written by one process."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = Checkpoints(path / CHECKPOINTS)

    @property
    def model(self) -> Path:
        return self.path / MODEL

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Add an epoch's line to metrics.jsonl."""
        self._append(METRICS, metrics)

    def log_skipped(self, record: Mapping[str, Any]) -> None:
        """Add a skipped update's line to skipped.jsonl."""
        self._append(SKIPPED, record)

    def go_back_to(self, step: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Remove from the logs what was written after the checkpoint of a step, whose epochs are
        `history`."""
        self._write(METRICS, history)
        path = self.path / SKIPPED
        if path.is_file():
            records = read_log(path, leave_out_damaged=True)
            self._write(SKIPPED, [record for record in records if record["step"] < step])

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        append(self.path / name, dumps(record) + "\n")

    def _write(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        write_atomically(self.path / name, "".join(dumps(r) + "\n" for r in records).encode())


def check_unused(path: Path) -> None:
    """Raise `ValueError` where a folder holds a run, or files that a new run would replace."""
    for folder in (path, path / BEFORE_FLOW):
        check_begin(folder, resume=False)


def check_begin(path: Path, *, resume: bool) -> None:
    """Raise `ValueError` where a run that begins in a folder, or continues with `resume`, would
    replace files that are not proven to be its own. Nothing is changed.

    A new run may replace the logs of a run that was killed before its first checkpoint, and nothing
    else. A run that has a model but no checkpoints has lost them: it is not trained again.
    """
    check_folders(path)
    parent = RunFolder(path.parent)
    if RunFolder(path).checkpoints:
        if not resume:
            raise ValueError(
                f"{path} holds a run already. Continue it with resume=True, or use another folder."
            )
        return
    if path.name == BEFORE_FLOW and parent.checkpoints:
        raise _lost(path, f"{path} is missing or empty")
    found = next((name for name in (MODEL, METRICS, SKIPPED) if _is_in_the_way(path, name)), None)
    if found is None:
        return
    if resume:
        raise _lost(path, f"{path} holds {found}, and {CHECKPOINTS}/ is missing or empty")
    raise ValueError(
        f"{path} must hold nothing that a run would replace, but it holds {found}. Use another "
        "folder."
    )


def check_folders(path: Path) -> None:
    """Raise `ValueError` where a folder within a run is a link or a file.

    Files are removed in these folders, and a link may lead to other people's files. The run's own
    folder may be a link.
    """
    for name in (CHECKPOINTS, MODEL, BEFORE_FLOW):
        folder = path / name
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            what = f"a link to {os.readlink(folder)}" if folder.is_symlink() else "a file"
            raise ValueError(
                f"{folder} must be a folder, got {what}. Use another run directory; a run "
                "directory itself may be a link."
            )


def _lost(path: Path, what: str) -> ValueError:
    anew = words("start anew in another run_dir", "start anew, with --overwrite")
    return ValueError(f"{path} has no checkpoint to resume from: {what}. Put it back, or {anew}.")


def _is_in_the_way(path: Path, name: str) -> bool:
    """Whether a new run would replace something of this name that may matter to somebody."""
    file = path / name
    if name == MODEL:
        return (file / STRUCTURE).exists()
    if file.is_symlink() or file.is_dir():
        return True
    if not file.exists() or not file.stat().st_size:
        return False
    try:
        read_log(file)
    except ValueError:
        return True
    # A log beside a lock, without checkpoints: the run was killed before it had one.
    return not (path / CHECKPOINTS / LOCK_FILE).is_file()


def write_plan(path: Path, flow_from_epoch: int) -> None:
    """Record the epoch in which a run turns its flow on, for a resumed run to use the same.

    Raises `ValueError` where the run has begun with another epoch, or another process trains it.
    """
    before = RunFolder(path / BEFORE_FLOW)
    check_folders(path)
    check_folders(before.path)
    read_plan(path)
    before.checkpoints.folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(before.checkpoints.folder, protects=path):  # as the epochs before do
        there = read_plan(path)
        if there == flow_from_epoch:
            return
        if RunFolder(path).checkpoints or (there is not None and before.checkpoints):
            raise ValueError(
                f"the run to resume has another flow_from_epoch: {there or 1} there, "
                f"{flow_from_epoch} here."
            )
        content = dumps({"flow_from_epoch": flow_from_epoch}) + "\n"
        write_atomically(path / PLAN, content.encode())


def read_plan(path: Path) -> int | None:
    """The epoch that `write_plan` wrote down; None where it did not. Raises `ValueError` for a file
    that it has not written."""
    file = path / PLAN
    if not (file.is_file() or file.is_symlink()):
        return None
    plan = read_json(file)
    epoch = plan.get("flow_from_epoch")
    if type(epoch) is not int or epoch < 2 or len(plan) > 1:
        raise ValueError(
            f"{file} is damaged, or none of hvax's: flow_from_epoch must be an integer >= 2 and "
            f"stand there alone, got {dumps(plan)[:80]}."
        )
    return epoch
