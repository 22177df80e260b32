"""Data that are others now than in training are never scored as if they were the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from hvax.cli import main
from runs_for_tests import MISSING, ON_OWN_DATA, SMALL, edit, load_npz, on_run, read_json, untrained

# Each of 400 numbers in steps of a hundredth, without a missing cell.
TABLE = np.round(np.random.default_rng(0).normal(size=(100, 4)), 2)


def write(name, rows, header="a,b,c,d"):
    np.savetxt(name, rows, delimiter=",", fmt="%.2f", header=header, comments="")


@pytest.fixture
def table_run(here):
    write("table.csv", TABLE)
    untrained(f"table.csv {SMALL}")
    return here / "other"


CHANGES = {
    "one number": lambda x: np.where(np.arange(400).reshape(100, 4) == 17, x + 0.01, x),
    "order": lambda x: x[::-1],
    "a row more": lambda x: np.concatenate([x, x[:1]]),
    "a row less": lambda x: x[:-1],
    "two columns swapped": lambda x: x[:, [1, 0, 2, 3]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_with_other_numbers_is_refused(change, table_run, refused):
    """Under the same name and of the same shape; seen to be scored without a word."""
    write("table.csv", CHANGES[change](TABLE))
    refused("evaluate other --num-samples 5 --no-progress", "table.csv does not hold the numbers")


@pytest.mark.parametrize("command", ON_OWN_DATA)
def test_every_command_on_the_runs_own_data_refuses_it(command, table_run, refused):
    write("table.csv", TABLE + 0.01)
    refused(on_run(command, "other"), "does not hold the numbers that other was trained on")


def test_compare_and_resume_refuse_it(table_run, refused):
    shutil.copytree("other", "twin")
    write("table.csv", TABLE + 0.01)
    refused("compare other twin --no-progress", "does not hold the numbers that other was trained")
    resume = f"train table.csv {SMALL} --run-dir other --resume --no-progress"
    refused(resume, "table.csv does not hold the numbers that other was started with")


def test_a_changed_image_is_noticed(here, refused):
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8)).astype(np.uint8)
    np.save("images.npy", images)
    untrained(f"images.npy {SMALL}")
    images[49, 7, 7] ^= 1
    np.save("images.npy", images)
    refused("encode other --no-progress", "images.npy does not hold the numbers")


def test_the_same_numbers_written_otherwise_are_the_same_data(table_run, ran):
    """Other columns, as they are left out anyway, digits and column order are of no matter."""
    ran("encode other --no-progress --out before.npz")
    lines = ["d,site,c,b,a"] + [f"{d:.4f},north,{c:g},{b:.3f},{a:g}" for a, b, c, d in TABLE]
    Path("table.csv").write_text("\n".join(lines) + "\n")
    ran("encode other --no-progress --out after.npz")
    before, after = load_npz("before.npz"), load_npz("after.npz")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_changed_file_is_scored_as_other_data(table_run, ran):
    write("table.csv", TABLE + 0.01)
    ran("evaluate other table.csv --num-samples 5 --no-progress")


@pytest.mark.parametrize("digest", [5, ["a"], {}, MISSING])
def test_a_digest_that_is_none_is_damage(digest, table_run, refused):
    edit(data__digest=digest)(table_run)
    refused("encode other --no-progress", "config.json is damaged: digest must be")


HOLES = """a,b,year
1.25,2,2020
3.5,4,
5.5,6,2020
7.5,,2020
"""


def test_rows_that_lack_a_cell_of_no_use_are_used_at_once(here, ran, capsys):
    """A column that does not vary is left out, and so its holes leave no row out: neither in
    training, nor where its columns are read by their names. They were then other rows, and other
    parts."""
    Path("holes.csv").write_text(HOLES + "".join(f"{i / 4},{i},2020\n" for i in range(36)))
    untrained(f"holes.csv {SMALL} --missing drop")
    record = read_json("other/config.json")
    assert sum(record["data"]["examples"].values()) == 39
    assert record["data"]["notes"] == [
        "left out year: one value only: 2020.0",
        "left out 1 of 40 rows with missing cells: b (1)",
    ]
    ran("encode other --no-progress")
    assert 3 not in load_npz("embeddings.npz")["row"]


def test_whole_numbers_beside_a_constant_are_read_alike(here):
    """Of which a resumed run said that they were others: int64 here, float64 there."""
    rows = np.random.default_rng(0).integers(50, 90, (60, 2))
    lines = ["a,b,half"] + [f"{a},{b},0.5" for a, b in rows]
    Path("ages.csv").write_text("\n".join(lines) + "\n")
    run = f"train ages.csv {SMALL} --epochs 1 --num-samples 5 --no-report --no-progress"
    assert main(f"{run} --run-dir ages --patience 0".split()) == 0
    assert main(["train", "ages.csv", "--run-dir", "ages", "--resume", "--epochs", "2"]) == 0
