"""One planted fault, and how it is tried."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

ROOT = Path(__file__).parents[2]
Verdict = Literal["killed", "survived", "broken"]


@dataclass(frozen=True)
class Mutant:
    """`before`, which stands once in `file` (below src/hvax), becomes `after`; at least one of
    `tests` (below tests, as pytest takes them) must then fail."""

    file: str
    before: str
    after: str
    tests: str
    x64: bool = False

    @property
    def name(self) -> str:
        first = " ".join(self.after.split())[:60]
        return f"{self.file}: {first!r}"


@dataclass(frozen=True)
class Trial:
    mutant: Mutant
    verdict: Verdict
    says: str  # why, in words
    test: str = ""  # the first that failed


def check(mutant: Mutant) -> None:
    """Raises `ValueError` where the text to change does not stand exactly once in its file."""
    text = (ROOT / "src/hvax" / mutant.file).read_text(encoding="utf-8")
    if (count := text.count(mutant.before)) != 1:
        raise ValueError(f"{mutant.file} has {count} times, not once: {mutant.before!r}")


def try_(mutant: Mutant, timeout: float = 3600) -> Trial:
    """Runs the tests on a copy of the tree with the fault in it; the tree itself is not touched."""
    check(mutant)
    with TemporaryDirectory(prefix="hvax-mutant-") as folder:
        tree = Path(folder)
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        )
        for name in filter(None, listed.stdout.split("\0")):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                shutil.copy2(ROOT / name, tree / name)
        file = tree / "src/hvax" / mutant.file
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
        return _verdict(mutant, tree, timeout)


def _verdict(mutant: Mutant, tree: Path, timeout: float) -> Trial:
    import os

    tests = [f"tests/{test}" for test in mutant.tests.split()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "--tb=no", "-p"]
    environment = os.environ | {
        "PYTHONPATH": str(tree / "src"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "JAX_ENABLE_X64": str(int(mutant.x64)),
    }
    try:
        done = subprocess.run(
            [*command, "no:cacheprovider", *tests],
            cwd=tree, env=environment, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Trial(mutant, "broken", f"no end within {timeout:.0f} s")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode < 0:  # such as SIGBUS, of a mapped file that has lost its end
        return Trial(mutant, "killed", f"the process died of signal {-done.returncode}")
    if done.returncode == 0:
        return Trial(mutant, "survived", "")
    if done.returncode == 1 and failed and not failed[0].startswith("ERROR"):
        says = failed[0].removeprefix("FAILED ")
        return Trial(mutant, "killed", says[:150], says.partition(" - ")[0])
    return Trial(mutant, "broken", (failed or done.stdout.splitlines()[-3:] or [done.stderr])[0])
