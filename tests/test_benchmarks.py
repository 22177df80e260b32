"""hvax's side of the benchmarks: it times steps when it is asked to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("run", ["loop", "step"])
def test_a_net_is_timed(run):
    command = f"hvax_side.py time tiny:{run} --steps 1 --batch 8"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=BENCHMARKS,
        input="2\n1\n",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    began, *timed = map(json.loads, done.stdout.splitlines())
    assert began["compile_s"] > 0 and len(timed) == 2
    assert all(each["ms"] > 0 and each["floor_ms"] > 0 for each in timed)
