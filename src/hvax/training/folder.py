"""What a training run keeps on disk, so that it can be continued and looked at.

folder/metrics.jsonl   one JSON object per epoch
folder/skipped.jsonl   one JSON object per update that was left out
folder/model/          the best model so far (hvax.load opens it)
folder/checkpoints/    all that the run needs to go on
folder/before-flow/    the same of the epochs before a flow was turned on
folder/plan.json       the epoch in which it is
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hvax.files import dumps, json_object, write_atomically
from hvax.training.checkpoint import Checkpoints

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
            records = [record for line in lines if (record := _record(line)) is not None]
            self._write(SKIPPED, [record for record in records if record["step"] < step])

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        with (self.path / name).open("a") as file:
            file.write(dumps(record) + "\n")

    def _write(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        write_atomically(self.path / name, "".join(dumps(r) + "\n" for r in records).encode())


def check_unused(path: Path) -> None:
    """Raises `ValueError` for a folder that holds a run."""
    if RunFolder(path).checkpoints:
        raise ValueError(
            f"{path} holds a run already. resume=True goes on with it; else use another folder."
        )


def write_plan(path: Path, flow_from_epoch: int) -> None:
    """Notes in which epoch a run turns its flow on: a resumed run must not choose anew."""
    path.mkdir(parents=True, exist_ok=True)
    content = dumps({"flow_from_epoch": flow_from_epoch}) + "\n"
    write_atomically(path / PLAN, content.encode())


def read_plan(path: Path) -> int | None:
    """The epoch that `write_plan` has noted; None where it has not."""
    if not (path / PLAN).is_file():
        return None
    epoch = json_object((path / PLAN).read_bytes()).get("flow_from_epoch")
    if not isinstance(epoch, int):
        raise ValueError(f"{path / PLAN} is damaged: flow_from_epoch must be an integer.")
    return epoch


def _record(line: bytes) -> dict[str, Any] | None:
    """A line of a log; None for one that a crash has cut short, or that is none of ours."""
    try:
        record = json_object(line)
    except ValueError:
        return None
    return record if isinstance(record.get("step"), int) else None
