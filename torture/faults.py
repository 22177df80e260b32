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
from typing import Any, NamedTuple

import numpy as np

_ROOT = Path(__file__).parents[1]
_HVAX = Path(sys.executable).with_name("hvax")
_SMALL = (
    "--hidden 16 --latent-size 2 --num-steps 1 --batch-size 16 --no-progress --no-report "
    "--num-samples 5 --test-points 10"
)
_ALONE = "--no-baseline --flow-from-epoch 1"
# What is trained: images, a table with an outlier, whose updates are not finite, and images in
# three trainings: until the flow comes, with it, and the plain VAE beside it.
SOURCES = {
    "digits": f"digits {_ALONE}",
    "outlier": f"outlier.npy --likelihood gaussian --no-standardize --max-skipped 50 {_ALONE}",
    "three trainings": "digits --flow-from-epoch 8",
}
_BESIDE = ("before-flow", "baseline")
_OFTEN, _AT_THE_END = 0.05, 1e6  # seconds between checkpoints
_CLOCKS = ("seconds", "compiling")
Row = tuple[str, int, int]


class Lab:
    """Runs in one folder, and the uninterrupted ones to compare them with."""

    def __init__(self, folder: Path, *, short: bool, seed: int):
        self.folder, self.short = folder, short
        self.chance = random.Random(seed)
        self.notes: list[str] = []
        # Compiled programs of this folder, and not the user's; in the short form quickly compiled.
        flags = os.environ.get("XLA_FLAGS", "")
        quick = {"XLA_FLAGS": f"{flags} --xla_backend_optimization_level=0"} if short else {}
        self._environment = {"XDG_CACHE_HOME": str(folder / "cache"), **quick}
        self._count = 0
        self._references: dict[tuple[str, int], Any] = {}
        table = np.random.default_rng(0).normal(size=(800, 5)).astype(np.float32)
        table[123] = 1e25  # its square overflows
        np.save(folder / "outlier.npy", table)

    def new_run(self) -> Path:
        self._count += 1
        return self.folder / f"run-{self._count}"

    def start(
        self,
        run: Path,
        epochs: int,
        *,
        source: str = "digits",
        every: float = _OFTEN,
        options: str = "",
        under: tuple[str, ...] = (),
    ) -> subprocess.Popen:
        """The installed program on a run: a new one, or resumed where there is one."""
        command = (
            f"train {SOURCES[source]} {_SMALL} --epochs {epochs} --save-seconds {every} {options}"
        )
        again = ["--resume"] if (run / "config.json").is_file() else []
        return subprocess.Popen(
            [*under, str(_HVAX), *command.split(), "--run-dir", str(run), *again],
            cwd=self.folder,
            env={**os.environ, **self._environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, run: Path, epochs: int, *, source: str = "digits") -> bool:
        """Resumes a run to its end; whether it equals the uninterrupted one."""
        process = self.start(run, epochs, source=source)
        out, _ = process.communicate(timeout=600)
        same = process.returncode == 0 and outcome(run) == self.reference(epochs, source=source)
        if not same:
            run.mkdir(exist_ok=True)
            (run / "torture.log").write_text(out)
        else:
            shutil.rmtree(run)
        return same

    def reference(self, epochs: int, *, source: str = "digits") -> Any:
        """What an uninterrupted run leaves."""
        if (source, epochs) not in self._references:
            run = self.new_run()
            process = self.start(run, epochs, source=source)
            out, _ = process.communicate(timeout=600)
            assert process.returncode == 0, out
            self._references[source, epochs] = outcome(run)
        return self._references[source, epochs]


def wait_for_a_save(run: Path, process: subprocess.Popen) -> None:
    """Until the next save of the process begins, or its end: a new name in checkpoints/."""
    before = _checkpoints(run)
    while process.poll() is None and _checkpoints(run) <= before:
        time.sleep(0.0003)


def in_a_save(run: Path) -> bool:
    """Whether what a killed run left shows that it was within a save: a file under a temporary
    name, arrays that no record names yet, or a checkpoint too many."""
    return any(_in_a_save(folder) for folder in _trainings(run))


def _in_a_save(run: Path) -> bool:
    folder = run / "checkpoints"
    if any(list(part.glob(".*.*")) for part in (run, run / "model", folder)):
        return True
    records = [path for path in folder.glob("*.json") if path.stem.isdigit()]
    named = {entry["file"] for path in records for entry in _manifest(path)["files"].values()}
    return len(records) > 2 or bool({path.name for path in folder.glob("*.safetensors")} - named)


def _trainings(run: Path) -> list[Path]:
    """The folder of a run, and those of the trainings before and beside it."""
    return [run, *(run / name for name in _BESIDE if (run / name).is_dir())]


def _checkpoints(run: Path) -> set[Path]:
    return {path for folder in _trainings(run) for path in (folder / "checkpoints").glob("*")}


def _manifest(record: Path) -> dict[str, Any]:
    return json.loads(record.read_text())


def outcome(run: Path) -> Any:
    """Every number that a run leaves, but for its clocks; arrays by their SHA-256."""
    own, *beside = _trainings(run)
    return _outcome(own) | {folder.name: _outcome(folder) for folder in beside}


def _outcome(run: Path) -> dict[str, Any]:
    manifest = _manifest(max((run / "checkpoints").glob("*.json")))
    position = manifest["record"]["position"]
    position["history"] = [_timeless(row) for row in position["history"]]
    return {
        "step": manifest["step"],
        "arrays": {name: entry["sha256"] for name, entry in manifest["files"].items()},
        "position": _timeless(position),
        "metrics": _lines(run / "metrics.jsonl"),
        "skipped": _lines(run / "skipped.jsonl"),
        "model": json.loads((run / "model" / "structure.json").read_text())["sha256"],
    }


def _lines(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text().splitlines() if file.is_file() else []
    return [_timeless(json.loads(line)) for line in lines]


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _CLOCKS}


def kills(lab: Lab) -> Iterator[Row]:
    """SIGKILL at random moments: two of three aimed at a save, one anywhere."""
    long = (("digits", 400), ("outlier", 800), ("three trainings", 20))
    for source, epochs in (("digits", 150),) if lab.short else long:
        yield _killed(lab, source, epochs, *((1, 3) if lab.short else (6, 9)))


def _killed(lab: Lab, source: str, epochs: int, runs: int, each: int) -> Row:
    injected = within = survived = 0
    trainings = {1: 0, 2: 0, 3: 0}  # that had begun by then
    lab.reference(epochs, source=source)
    for _ in range(runs):
        run, done = lab.new_run(), 0
        for i in range(each):
            process = lab.start(run, epochs, source=source)
            wait_for_a_save(run, process)
            time.sleep(lab.chance.uniform(0, 1.0 if i % 3 == 2 else 0.01))
            process.kill()
            process.wait()
            if process.returncode != -signal.SIGKILL:
                break  # the run came to its end before
            done += 1
            within += in_a_save(run)
            trainings[sum((part / "checkpoints").is_dir() for part in _trainings(run))] += 1
        injected += done
        survived += done * lab.finish(run, epochs, source=source)
    begun = f"; kills by trainings begun: {trainings}" if "trainings" in source else ""
    lab.notes.append(f"{source}: {within} of {injected} kills landed inside a save{begun}")
    return f"SIGKILL at a random moment, {source}", injected, survived


def signals(lab: Lab) -> Iterator[Row]:
    """Ctrl-C and SIGTERM: exit codes 130 and 143, and nothing lost."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        injected = survived = 0
        for _ in range(1 if lab.short else 5):
            run = lab.new_run()
            process = lab.start(run, 400)
            wait_for_a_save(run, process)
            time.sleep(lab.chance.uniform(0, 0.3))
            process.send_signal(number)
            out, _ = process.communicate(timeout=600)
            injected += 1
            survived += process.returncode == code and "--resume" in out and lab.finish(run, 400)
        yield signal.Signals(number).name, injected, survived


def flushes(lab: Lab) -> Iterator[Row]:
    """Whether every file is on disk before it is renamed and its folder after it, which no kill
    would show: seen in the order of the program's system calls. Seen to fail without the flush of a
    file, the flush of a folder, and the rename."""
    if shutil.which("strace") is None:
        lab.notes.append("flushes: left out, for want of strace")
        return
    calls = [call for call in _traced(lab, lab.new_run(), 1) if call.changes]
    yield "files flushed, renamed, and their folders flushed", *_flushed(calls)


def system_calls(lab: Lab) -> Iterator[Row]:
    """SIGKILL before every call by which the first save of a run changes its files, and the third,
    which removes a checkpoint; by a preloaded library."""
    if lab.short:
        return
    library, log = lab.folder / "kill_at.so", lab.folder / "calls.log"
    if shutil.which("cc") is None:
        lab.notes.append("system calls: left out, for want of a C compiler")
        return
    source = str(_ROOT / "torture" / "kill_at.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), source, "-ldl"], check=True)
    two = lab.new_run()
    for epochs in (1, 2):
        lab.start(two, epochs, every=_AT_THE_END).communicate(timeout=600)
    for which, before, epochs in (("first", None, 1), ("third", two, 3)):

        def ended(at: int, before: Path | None = before, epochs: int = epochs) -> tuple[int, Path]:
            run = lab.new_run()
            if before is not None:
                shutil.copytree(before, run)
            under = ("env", f"LD_PRELOAD={library}", f"TORTURE_FOLDER={run}",
                     f"TORTURE_LOG={log}", f"TORTURE_KILL={at}")  # fmt: skip
            process = lab.start(run, epochs, every=_AT_THE_END, under=under)
            process.communicate(timeout=600)
            return process.returncode, run

        log.unlink(missing_ok=True)
        ended(0)
        calls = log.read_text().splitlines()
        killed = dict.fromkeys(calls, 0)
        survived = dict.fromkeys(calls, 0)
        for i, name in enumerate(calls, 1):
            code, run = ended(i)
            killed[name] += code == -signal.SIGKILL
            survived[name] += code == -signal.SIGKILL and lab.finish(run, epochs)
        for name in killed:
            yield f"SIGKILL before each {name} of the {which} save", killed[name], survived[name]


_STRACE = ("strace", "-f", "--seccomp-bpf")
_CALLS = ("openat", "write", "fsync", "rename")


class Call(NamedTuple):
    """A system call, and whether it changes the checkpoints, the model or the log of the run."""

    name: str
    changes: bool
    line: str


def _traced(lab: Lab, run: Path, epochs: int) -> Iterator[Call]:
    """The system calls of a run that saves at its end alone, so that each repetition has them."""
    log = lab.folder / "strace.log"
    watched = ("-y", "-s", "16", "-e", f"trace={','.join(_CALLS)}")
    process = lab.start(run, epochs, every=_AT_THE_END, under=(*_STRACE, *watched, "-o", str(log)))
    process.communicate(timeout=600)
    own = re.compile(re.escape(str(run)) + "/(checkpoints|model|metrics)")
    for line in log.read_text(errors="replace").splitlines():
        found = re.match(r"\d+ +(\w+)\((.*)", line)
        if found is not None and found[1] in _CALLS:
            reads = found[1] == "openat" and "O_CREAT" not in found[2]
            yield Call(found[1], own.search(found[2]) is not None and not reads, found[2])


def _flushed(calls: list[Call]) -> tuple[int, int]:
    """How many files a run's saves wrote, and how many of them safely: beside their place, flushed,
    renamed, and the folder flushed after that."""
    written: dict[str, int] = {}
    safe = 0
    for i, call in enumerate(calls):
        if call.name == "write" and "metrics.jsonl" not in call.line:
            written[call.line.split("<", 1)[1].split(">", 1)[0]] = i

    for path, last in written.items():
        after = calls[last + 1 :]

        def first(name: str, text: str, after: list[Call] = after) -> int | None:
            found = (i for i, c in enumerate(after) if c.name == name and text in c.line)
            return next(found, None)

        flush, place = first("fsync", path), first("rename", f'"{path}"')
        folder = str(Path(path).parent) + ">"
        safe += (
            flush is not None
            and place is not None
            and flush < place
            and any(c.name == "fsync" and folder in c.line for c in after[place:])
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
    latest, before = (_manifest(path)["files"] for path in manifests[::-1])
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
        wait_for_a_save(run, process)
        time.sleep(0.3)
        process.kill()
        process.wait()
        full = ("bash", "-c", f"ulimit -f {blocks}; trap '' XFSZ; exec \"$@\"", "full")
        process = lab.start(run, 150, under=full)
        out, _ = process.communicate(timeout=600)
        injected += 1
        told = re.fullmatch(r"(.*\n)?hvax: [^\n]*File too large[^\n]*\n", out, re.S)
        said = process.returncode == 2 and told is not None
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


def files(lab: Lab) -> Iterator[Row]:
    """Files of every kind that hvax reads, damaged at random."""
    yield from _counted(
        "damaged files of every kind read", "torture.files", "30" if lab.short else "2000"
    )


def arguments(lab: Lab) -> Iterator[Row]:
    """Odd arguments for every public function."""
    every = "12" if lab.short else "1"
    yield from _counted("odd arguments of public functions", "torture.arguments", every)


def _counted(what: str, module: str, *options: str) -> Iterator[Row]:
    """A program that prints how many faults it tried and how many were survived, last."""
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=1800)
    *said, last = done.stdout.strip().splitlines() or [f"0 {done.stderr[-500:]}"]
    if done.returncode != 0:
        print("\n".join([*said, done.stderr[-2000:]]))
    tried, survived = map(int, last.split())
    yield what, tried, survived


CASES: dict[str, Callable[[Lab], Iterator[Row]]] = {
    "kills": kills,
    "signals": signals,
    "flushes": flushes,
    "system-calls": system_calls,
    "damage": damage,
    "full-disk": full_disk,
    "files": files,
    "arguments": arguments,
    "soak": soak,
}
