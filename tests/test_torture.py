"""The short form of `make torture`: the real program killed, hurt and resumed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The others are in test_endings.py.
CASES = (
    "kills",
    "flushes",
    "damage",
    "files",
    "arguments",
    "soak",
)


@pytest.mark.slow
def test_every_fault_is_survived():
    done = subprocess.run(
        [sys.executable, "-m", "torture", "--short", "--only", *CASES],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    counts = [(row[0], int(row[1]), int(row[2])) for row in rows[1:]]
    assert len(counts) >= 6 and all(injected == survived > 0 for _, injected, survived in counts)
