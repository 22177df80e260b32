"""Runs made by earlier versions, which must load for ever with the same outputs to rounding.

A folder of tests/golden is what golden/make.py left when its version was released; it is never made
again. A version that cannot read one has broken its users' runs.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from golden.make import outputs
from hvax.cli import main
from hvax.storage.structure import load

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir() if (path / "config.json").is_file())


@pytest.mark.parametrize("part", [".", "baseline"])
@pytest.mark.parametrize("version", VERSIONS)
def test_its_model_gives_the_same_outputs(version, part):
    """Of float32 weights, whatever the precision of the test; rounding seen: 0 to 4 units."""
    folder = GOLDEN / version / part
    found = outputs(load(folder / "model"))
    expected = np.load(folder / "outputs.npz")
    assert set(found) == set(expected.files)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("version", VERSIONS)
def test_its_checkpoints_are_gone_on_with(version, tmp_path, capsys):
    """By the program: the run is complete, so it is scored again, and its weights are the same."""
    run = tmp_path / "run"
    shutil.copytree(GOLDEN / version, run)
    before = json.loads((run / "results.json").read_text())
    code = main(["train", "digits", "--run-dir", str(run), "--resume", "--no-progress"])
    out, err = capsys.readouterr()
    assert code == 0, err
    after = json.loads((run / "results.json").read_text())
    for name in ("vae", "hvae"):
        assert after[name]["weights"] == before[name]["weights"]
        assert before[name]["weights"][:16] in out
        assert after[name]["epochs"] == 2
