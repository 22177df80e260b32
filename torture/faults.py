"""The faults, one generator a kind: each yields (what was done, how often, how often survived)."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_TRAIN = (
    "train digits --no-baseline --hidden 16 --latent-size 2 --num-steps 1 --batch-size 16 "
    "--no-progress --no-report --num-samples 5 --test-points 10 --save-seconds 0.05"
)
_CLOCKS = ("seconds", "compiling")
Row = tuple[str, int, int]


class Lab:
    """Runs of one kind, in one folder, and the uninterrupted one to compare them with."""

    def __init__(self, folder: Path, *, short: bool, seed: int):
        self.folder, self.short = folder, short
        self.chance = random.Random(seed)
        self.notes: list[str] = []
        self._count = 0
        self._references: dict[int, Any] = {}

    def new_run(self) -> Path:
        self._count += 1
        return self.folder / f"run-{self._count}"

    def start(self, run: Path, epochs: int, *, under: tuple[str, ...] = ()) -> subprocess.Popen:
        """The program on a run: a new one, or resumed where there is one."""
        again = ["--resume"] if (run / "config.json").is_file() else []
        command = [
            sys.executable,
            "-m",
            "torture.program",
            *_TRAIN.split(),
            "--epochs",
            str(epochs),
        ]
        return subprocess.Popen(
            [*under, *command, "--run-dir", str(run), *again],
            cwd=_ROOT,
            env={**os.environ, "HVAX_TORTURE_MARKS": str(self.marks(run))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, run: Path, epochs: int) -> bool:
        """Resumes a run to its end; whether it equals the uninterrupted one."""
        process = self.start(run, epochs)
        out, _ = process.communicate(timeout=600)
        same = process.returncode == 0 and outcome(run) == self.reference(epochs)
        if not same:
            (run / "torture.log").write_text(out)
        else:
            shutil.rmtree(run)
        return same

    def reference(self, epochs: int) -> Any:
        """What an uninterrupted run leaves."""
        if epochs not in self._references:
            run = self.new_run()
            process = self.start(run, epochs)
            out, _ = process.communicate(timeout=600)
            assert process.returncode == 0, out
            self._references[epochs] = outcome(run)
        return self._references[epochs]

    def marks(self, run: Path) -> Path:
        return run.with_suffix(".marks")

    def marked(self, run: Path) -> bytes:
        file = self.marks(run)
        return file.read_bytes() if file.is_file() else b""

    def wait_for_a_save(self, run: Path, process: subprocess.Popen) -> None:
        """Until the next save of the process begins, or its end."""
        seen = len(self.marked(run))
        while process.poll() is None and b"[" not in self.marked(run)[seen:]:
            time.sleep(0.0005)


def outcome(run: Path) -> Any:
    """Every number that a run leaves, but for its clocks; arrays by their SHA-256."""
    latest = max((run / "checkpoints").glob("*.json"))
    manifest = json.loads(json.loads(latest.read_text())["manifest"])
    position = manifest["record"]["position"]
    position["history"] = [_timeless(row) for row in position["history"]]
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return {
        "step": manifest["step"],
        "arrays": {name: entry["sha256"] for name, entry in manifest["files"].items()},
        "position": _timeless(position),
        "metrics": [_timeless(json.loads(line)) for line in lines],
        "model": json.loads((run / "model" / "structure.json").read_text())["sha256"],
    }


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _CLOCKS}


def kills(lab: Lab) -> Iterator[Row]:
    """SIGKILL at random moments: half of them aimed at a save, half at the compiled steps."""
    runs, each, epochs = (1, 4, 150) if lab.short else (12, 9, 400)
    injected = within = survived = 0
    lab.reference(epochs)
    for _ in range(runs):
        run, done = lab.new_run(), 0
        for i in range(each):
            process = lab.start(run, epochs)
            lab.wait_for_a_save(run, process)
            if i % 2:
                time.sleep(lab.chance.uniform(0, 0.02))
            else:
                time.sleep(lab.chance.uniform(0, 1.0))
            process.kill()
            process.wait()
            if process.returncode != -signal.SIGKILL:
                break  # the run came to its end before
            done += 1
            marks = lab.marked(run)
            within += marks.endswith(b"[")
            with lab.marks(run).open("ab") as file:
                file.write(b"]" if marks.endswith(b"[") else b"")
        injected += done
        survived += done * lab.finish(run, epochs)
    yield "SIGKILL at a random moment", injected, survived
    lab.notes.append(f"{within} of {injected} kills landed inside a save")


def signals(lab: Lab) -> Iterator[Row]:
    """Ctrl-C and SIGTERM: exit codes 130 and 143, and nothing lost."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        injected = survived = 0
        for _ in range(1 if lab.short else 5):
            run = lab.new_run()
            process = lab.start(run, 150)
            lab.wait_for_a_save(run, process)
            time.sleep(lab.chance.uniform(0, 0.5))
            process.send_signal(number)
            out, _ = process.communicate(timeout=600)
            injected += 1
            ended = process.returncode == code and "--resume" in out
            survived += (ended or process.returncode == 0) and lab.finish(run, 150)
        yield signal.Signals(number).name, injected, survived


def system_calls(lab: Lab) -> Iterator[Row]:
    """SIGKILL at every system call of a run's saves that touches its files, by strace; and whether
    everything is on disk before it is renamed, which no kill would show."""
    if lab.short or shutil.which("strace") is None:
        lab.notes.append("system calls: left out (the long form alone, where strace is installed)")
        return
    epochs, seen = 1, lab.new_run()
    log = lab.folder / "strace.log"
    watched = f"trace={','.join(_CALLS)}"
    process = lab.start(
        seen, epochs, under=("strace", "-f", "-y", "-s", "16", "-o", str(log), "-e", watched)
    )
    process.communicate(timeout=600)
    calls = list(_read_trace(log, seen))
    yield "renames with content and folder flushed", *_flushed(calls)
    for name in _CALLS:
        moments = [nth for call, nth, own, _ in calls if call == name and own]
        survived = 0
        for moment in moments:
            run = lab.new_run()
            inject = f"inject={name}:signal=SIGKILL:when={moment}"
            under = (
                "strace",
                "-f",
                "--seccomp-bpf",
                "-o",
                "/dev/null",
                "-e",
                f"trace={name}",
                "-e",
                inject,
            )
            process = lab.start(run, epochs, under=under)
            process.communicate(timeout=600)
            survived += lab.finish(run, epochs)
        if moments:
            yield f"SIGKILL at each {name} of a run's saves", len(moments), survived


_CALLS = ("openat", "write", "fsync", "chmod", "rename", "unlink", "mkdir")


def _read_trace(log: Path, run: Path) -> Iterator[tuple[str, int, bool, str]]:
    """Each call's name, its number among the calls of that name in its thread, whether it changes
    the run's checkpoints, model or metrics, and its line."""
    counts: dict[tuple[str, str], int] = {}
    own = re.compile(re.escape(str(run)) + "/(checkpoints|model|metrics)")
    for line in log.read_text(errors="replace").splitlines():
        found = re.match(r"(\d+) +(\w+)\((.*)", line)
        if found is not None and found[2] in _CALLS:
            thread = (found[1], found[2])
            counts[thread] = counts.get(thread, 0) + 1
            reads = found[2] == "openat" and "O_CREAT" not in found[3]
            touches = own.search(found[3]) is not None and not reads
            yield found[2], counts[thread], touches, found[3]


def _flushed(calls: list[tuple[str, int, bool, str]]) -> tuple[int, int]:
    """How many files a run's saves wrote, and how many of them safely: beside their place, flushed,
    renamed, and the folder flushed after that."""
    own = [(name, line) for name, _, touches, line in calls if touches]
    written: dict[str, int] = {}
    safe = 0
    for i, (name, line) in enumerate(own):
        if name == "write" and "metrics.jsonl" not in line:
            written[line.split("<", 1)[1].split(">", 1)[0]] = i
    for path, last in written.items():
        after = own[last + 1 :]
        flush = next((i for i, c in enumerate(after) if c[0] == "fsync" and path in c[1]), None)
        place = next(
            (i for i, c in enumerate(after) if c[0] == "rename" and f'"{path}"' in c[1]), None
        )
        folder = str(Path(path).parent) + ">"
        safe += (
            flush is not None
            and place is not None
            and flush < place
            and any(c[0] == "fsync" and folder in c[1] for c in after[place:])
        )
    return len(written), safe


def damage(lab: Lab) -> Iterator[Row]:
    """Every file of the latest checkpoint in turn: a bit flipped, cut short, emptied, removed."""
    run = lab.new_run()
    process = lab.start(run, 150)
    while len(list((run / "checkpoints").glob("*.json"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = lab.folder / "damaged"
    shutil.copytree(run, kept)
    manifests = sorted((run / "checkpoints").glob("*.json"))
    latest, before = (
        json.loads(json.loads(path.read_text())["manifest"])["files"] for path in manifests[::-1]
    )
    own = {entry["file"] for entry in latest.values()} - {e["file"] for e in before.values()}
    for how, hurt in list(_DAMAGES.items())[: 2 if lab.short else None]:
        files = [manifests[-1].name, *sorted(own)]
        files = files[:2] if lab.short else files
        survived = 0
        for name in files:
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(kept, run)
            hurt(run / "checkpoints" / name, lab.chance)
            process = lab.start(run, 150)
            out, _ = process.communicate(timeout=600)
            gone = name == manifests[-1].name and how == "removed"
            said = gone or ("damaged-checkpoint" in out and name in out)
            survived += said and process.returncode == 0 and outcome(run) == lab.reference(150)
        yield f"a file of the latest checkpoint {how}", len(files), survived


def _flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


_DAMAGES: dict[str, Callable[[Path, random.Random], Any]] = {
    "with a bit flipped": _flip,
    "cut short": lambda path, chance: os.truncate(path, chance.randrange(1, path.stat().st_size)),
    "emptied": lambda path, chance: path.write_bytes(b""),
    "removed": lambda path, chance: path.unlink(),
}


def full_disk(lab: Lab) -> Iterator[Row]:
    """A limit on the size of files: the save fails, the run says so, and goes on when there is
    room."""
    injected = survived = 0
    for blocks in (1, 4, 16) if not lab.short else (4,):
        run = lab.new_run()
        process = lab.start(run, 150)
        lab.wait_for_a_save(run, process)
        time.sleep(0.3)
        process.kill()
        process.wait()
        full = ("bash", "-c", f"ulimit -f {blocks}; trap '' XFSZ; exec \"$@\"", "full")
        process = lab.start(run, 150, under=full)
        out, _ = process.communicate(timeout=600)
        injected += 1
        said = process.returncode == 2 and "could not be written" in out and "Traceback" not in out
        survived += said and lab.finish(run, 150)
    yield "no room for a checkpoint", injected, survived


def soak(lab: Lab) -> Iterator[Row]:
    """Long training with a reckless learning rate and step size: it ends, with finite numbers or an
    error that explains itself, in memory that does not grow and without a second compilation."""
    for net, steps in (("tiny", 2_000 if lab.short else 200_000), ("conv", 300)):
        if lab.short and net == "conv":
            continue
        command = [sys.executable, "-m", "torture.soak", net, str(steps)]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=1800)
        said = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-500:]
        lab.notes.append(f"soak, {net}: {said}")
        yield f"soak: {steps} steps of the {net} net", 1, int(done.returncode == 0)


CASES: dict[str, Callable[[Lab], Iterator[Row]]] = {
    "kills": kills,
    "signals": signals,
    "system-calls": system_calls,
    "damage": damage,
    "full-disk": full_disk,
    "soak": soak,
}
