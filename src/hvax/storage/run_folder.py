"""What a training run keeps on disk, so that it can be continued and looked at.

folder/metrics.jsonl   one JSON object per epoch
folder/skipped.jsonl   one JSON object per update that was left out
folder/model/          the best model so far (hvax.load opens it)
folder/checkpoints/    all that the run needs to go on
folder/before-flow/    the same of the epochs before a flow was turned on
folder/plan.json       the epoch in which it is
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hvax.storage.checkpoint import Checkpoints
from hvax.storage.files import LOCK, append, dumps, held, json_object, read_json, write_atomically
from hvax.storage.structure import STRUCTURE
from hvax.wording import words

METRICS, SKIPPED, MODEL, CHECKPOINTS = "metrics.jsonl", "skipped.jsonl", "model", "checkpoints"
BEFORE_FLOW = "before-flow"  # the plain VAE that a flow was turned on in, as a folder of its own
PLAN = "plan.json"


class RunFolder:
    """The files of one run, written by one process."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = Checkpoints(path / CHECKPOINTS)

    @property
    def model(self) -> Path:
        return self.path / MODEL

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Adds an epoch's line."""
        self._append(METRICS, metrics)

    def log_skipped(self, record: Mapping[str, Any]) -> None:
        """Adds a line about an update that was left out."""
        self._append(SKIPPED, record)

    def go_back_to(self, step: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Takes out of the logs what was written after the checkpoint of a step."""
        self._write(METRICS, history)
        path = self.path / SKIPPED
        lines = path.read_bytes().splitlines() if path.is_file() else []
        if path.is_file():
            records = [record for line in lines if is_skipped(record := _parsed(line))]
            self._write(SKIPPED, [record for record in records if record["step"] < step])

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        append(self.path / name, dumps(record) + "\n")

    def _write(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        write_atomically(self.path / name, "".join(dumps(r) + "\n" for r in records).encode())


def check_unused(path: Path) -> None:
    """Raises `ValueError` for a folder that holds a run, or files of others that one would
    replace."""
    for folder in (path, path / BEFORE_FLOW):
        check_begin(folder, resume=False)


def check_begin(path: Path, *, resume: bool) -> None:
    """Raises `ValueError` where a run that begins in a folder, or goes on, would replace what is
    not proven its own; nothing is changed.

    A new run replaces the log of one that was killed before its first checkpoint, and nothing
    else. A run without checkpoints that has a model has lost them: it does not start over.
    """
    check_folders(path)
    parent = RunFolder(path.parent)
    if RunFolder(path).checkpoints:
        if not resume:
            raise ValueError(
                f"{path} holds a run already. resume=True goes on with it; else use another folder."
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
    """Raises `ValueError` where a folder of a run is a link, or no folder: files are removed in
    them, and a link may lead to those of others. The run's own folder may be a link."""
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
    return ValueError(f"{path} has no checkpoint to go on from: {what}. Put it back, or {anew}.")


def _is_in_the_way(path: Path, name: str) -> bool:
    """Whether something of this name would be replaced that is not proven to be without worth."""
    file = path / name
    if name == MODEL:
        return (file / STRUCTURE).exists()
    if file.is_symlink() or file.is_dir():
        return True
    lines = file.read_bytes().splitlines() if file.exists() else []
    if not lines:
        return False
    ours = is_metrics if name == METRICS else is_skipped
    return not (
        (path / CHECKPOINTS / LOCK).is_file()
        and all(ours(_parsed(line)) for line in lines[:-1])
        and (ours(_parsed(lines[-1])) or not _parsed(lines[-1]))  # cut short by a kill
    )


def write_plan(path: Path, flow_from_epoch: int) -> None:
    """Notes in which epoch a run turns its flow on: a resumed run must not choose anew.

    Raises `ValueError` where the run has begun with another, or another process is at it.
    """
    before = RunFolder(path / BEFORE_FLOW)
    check_folders(path)
    check_folders(before.path)
    read_plan(path)
    before.checkpoints.folder.mkdir(parents=True, exist_ok=True)
    with held(before.checkpoints.folder, covers=path):  # as the epochs before the flow do
        there = read_plan(path)
        if there == flow_from_epoch:
            return
        if RunFolder(path).checkpoints or (there is not None and before.checkpoints):
            raise ValueError(
                f"the run to go on with has another flow_from_epoch: {there or 1} there, "
                f"{flow_from_epoch} here."
            )
        content = dumps({"flow_from_epoch": flow_from_epoch}) + "\n"
        write_atomically(path / PLAN, content.encode())


def read_plan(path: Path) -> int | None:
    """The epoch that `write_plan` has noted; None where it has not. Raises `ValueError` for a file
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


def is_metrics(record: Mapping[str, Any]) -> bool:
    """Whether a line of metrics.jsonl is one that `RunFolder.log` wrote: an epoch and numbers."""
    epoch = record.get("epoch")
    return (
        type(epoch) is int
        and epoch >= 1
        and all(value is None or type(value) in (int, float) for value in record.values())
    )


def is_skipped(record: Mapping[str, Any]) -> bool:
    """Whether a line of skipped.jsonl is one that `RunFolder.log_skipped` wrote."""
    return type(record.get("step")) is int and type(record.get("epoch")) is int


def _parsed(line: bytes) -> dict[str, Any]:
    """A line of a log; empty for one that a crash has cut short, or that is none of ours."""
    try:
        return json_object(line)
    except ValueError:
        return {}
