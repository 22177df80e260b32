"""`hvax impute`: missing cells are filled in, every other byte of a cell stays."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import hvax
from hvax.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::hvax.exceptions.HvaxWarning")
WORDS = "--model vae --hidden 8 --latent-size 2 --epochs 3 --batch-size 16 --num-samples 5"
ROWS = 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of several kinds of columns, with decimal commas and holes, and a run on it."""
    path = tmp_path_factory.mktemp("impute")
    chance = np.random.default_rng(0)
    size = chance.normal(size=ROWS)
    lines = ['name;"the mass";kind;eggs;site;when']
    for i in range(ROWS):
        cells = [
            f"bird {i}",
            f"{np.exp(4 + 0.5 * size[i]):.4f}".replace(".", ","),
            "big" if size[i] > 0.3 else "small" if size[i] < -0.3 else "so-so",
            str(chance.poisson(np.exp(1 + 0.6 * size[i]))),
            chance.choice(["north", "south"]),
            f"2026-01-{1 + i % 28:02d}",
        ]
        for j in (1, 2, 3, 4):
            if chance.uniform() < 0.15:
                cells[j] = chance.choice(["", "NA", "?"])
        lines.append(";".join(cells))
    (path / "birds.csv").write_text("\n".join(lines) + "\n")
    run = f"train {path / 'birds.csv'} --run-dir {path / 'run'} {WORDS} --no-progress --no-report"
    assert main(run.split()) == 0
    return path


def cells_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter=";"))


def test_only_missing_cells_change(folder, capsys):
    out, cells = folder / "full.csv", folder / "cells.csv"
    arguments = f"impute {folder / 'run'} --out {out} --cells {cells} --draws 30 --no-progress"
    assert main(arguments.split()) == 0
    before, after = cells_of(folder / "birds.csv"), cells_of(out)
    assert before[0] == after[0] and len(after) == ROWS + 1
    filled = []
    for row, (old, new) in enumerate(zip(before[1:], after[1:], strict=True)):
        for j, (a, b) in enumerate(zip(old, new, strict=True)):
            if a in ("", "NA", "?"):
                filled.append((row, before[0][j], b))
            else:
                assert a == b
    kinds = {name: {value for _, column, value in filled if column == name} for name in before[0]}
    assert kinds["kind"] <= {"big", "small", "so-so"} and kinds["site"] <= {"north", "south"}
    assert all(value.isdecimal() for value in kinds["eggs"])
    assert all(
        float(value.replace(",", ".")) > 0 and "." not in value for value in kinds["the mass"]
    )
    with cells.open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [(int(each["row"]), each["column"]) for each in listed] == [f[:2] for f in filled]
    for each in listed:
        if each["column"] in ("kind", "site"):
            assert each["class"] == after[1 + int(each["row"])][after[0].index(each["column"])]
            assert 0 < float(each["probability"]) <= 1 and each["value"] == each["low"] == ""
        else:
            assert float(each["low"]) <= float(each["high"]) and each["value"]
            assert each["class"] == each["probability"] == ""
    assert f"{len(filled)} values imputed" in capsys.readouterr().out


def test_the_schema_is_kept_with_the_run(folder):
    record = json.loads((folder / "run" / "config.json").read_text())
    table = hvax.Table.from_dict(record["data"]["table"])
    kinds = {column.name: column.kind for column in table.columns}
    assert kinds["name"] == kinds["when"] == "ignored"
    assert kinds["kind"] == "category" and kinds["site"] == "binary" and kinds["eggs"] == "count"
    assert record["options"]["model"]["likelihood"] == "mixed"


def test_other_files_are_read_by_the_schema(folder, capsys):
    """Their columns in any order, ignored ones absent; a class that was not there is named."""
    other = folder / "other.csv"
    other.write_text("site,eggs,kind,the mass\nnorth,2,big,60.5\n,1,small,\n")
    run, out = folder / "run", folder / "other-full.csv"
    assert main(f"impute {run} {other} --out {out} --no-progress".split()) == 0
    rows = out.read_text().splitlines()
    assert rows[:2] == ["site,eggs,kind,the mass", "north,2,big,60.5"]
    assert rows[2].split(",")[0] in ("north", "south") and float(rows[2].split(",")[3]) > 0
    assert main(f"evaluate {run} {other} --num-samples 5 --no-progress".split()) == 0
    other.write_text("site,eggs,kind,the mass\nwest,2,big,60.5\n")
    assert main(f"evaluate {run} {other} --num-samples 5 --no-progress".split()) == 2
    said = capsys.readouterr().err
    assert "west" in said and "site" in said
    other.write_text("site,eggs,kind\nnorth,2,big\n")
    assert main(f"encode {run} {other} --out {folder / 'z.npz'}".split()) == 2
    assert "the mass: is absent" in capsys.readouterr().err


def test_files_with_more_columns_unseen_classes_and_empty_rows(folder, capsys):
    """A column that the run does not know stays as it is; an empty row is filled in too."""
    other, out = folder / "more.csv", folder / "more-full.csv"
    other.write_text("ring,site,eggs,kind,the mass\n7,west,2,big,60.5\n8,,,,\n9,north,1,,\n")
    impute = f"impute {folder / 'run'} {other} --out {out} --no-progress"
    assert main(impute.split()) == 2
    said = capsys.readouterr().err.splitlines()
    assert "more.csv must have the columns of the data" in said[-3]
    assert said[-2].startswith("    site: must be one of 'north', 'south', got 'west' in row 0")
    assert "--unseen missing" in said[-2]
    assert main([*impute.split(), "--unseen", "missing"]) == 0
    said = capsys.readouterr()
    assert "more.csv has columns" in said.err and "not used: ring" in said.err
    assert "taken as missing: site ('west')" in said.err
    assert "7 values imputed, in 3 of 3 rows" in said.out
    rows = [line.split(",") for line in out.read_text().splitlines()]
    assert [row[0] for row in rows] == ["ring", "7", "8", "9"]
    assert all(cell for row in rows for cell in row)
    assert rows[1][1] in ("north", "south") and rows[1][2:] == ["2", "big", "60.5"]


def test_samples_are_a_table(folder):
    out = folder / "new.csv"
    assert main(f"sample {folder / 'run'} -n 7 --out {out}".split()) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["the mass", "kind", "eggs", "site"] and len(rows) == 7
    assert {row["kind"] for row in rows} <= {"big", "small", "so-so"}
    again = folder / "again.csv"
    assert main(f"reconstruct {folder / 'run'} --out {again} --no-progress".split()) == 0
    assert len(again.read_text().splitlines()) == 1 + 9


def test_a_mixed_run_goes_on_and_refuses_other_kinds(folder, capsys):
    run = f"train {folder / 'birds.csv'} --run-dir {folder / 'run'} --resume --no-progress"
    run += " --no-report"
    assert main([*run.split(), *WORDS.replace("--epochs 3", "--epochs 4").split()]) == 0
    assert main([*run.split(), *WORDS.split(), "--kinds", "eggs=real"]) == 2
    assert "--kinds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--out full.txt", "must end in .csv"),
        ("--out full.csv --draws 0", "--draws must be >= 1"),
        ("--out full.csv --cells c.csv --level 0.999 --draws 10", "level must be"),
    ],
)
def test_bad_options_are_refused(folder, tmp_path, monkeypatch, arguments, message, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(f"impute {folder / 'run'} {arguments} --no-progress".split()) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_nothing_missing_is_said(folder, capsys):
    other = folder / "whole.csv"
    other.write_text("site,eggs,kind,the mass\nnorth,2,big,60.5\n")
    assert main(f"impute {folder / 'run'} {other} --out {folder / 'w.csv'}".split()) == 2
    assert "there is nothing to impute" in capsys.readouterr().err
