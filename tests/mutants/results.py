"""What became of each planted fault, as the committed page RESULTS.md holds it."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tests.mutants.mutant import ROOT, Mutant, Trial

PAGE = ROOT / "tests/mutants/RESULTS.md"
VERDICTS = ("killed", "survived", "broken", "not tried")
_HEAD = """\
# Planted faults

Written by `python -m tests.mutants`: each fault planted in a copy of the tree, and the first test
that then failed. A fault that was not tried since it was last changed says so.

"""


class Row(NamedTuple):
    """A line of the page, in Markdown."""

    file: str
    fault: str
    test: str
    outcome: str  # one of VERDICTS
    commit: str  # of the tree in which it was planted

    @property
    def part(self) -> str:
        return self.file.partition("/")[0].removesuffix(".py")


def fault(mutant: Mutant) -> str:
    """`before` → `after`, each on one line."""
    return f"{_on_one_line(mutant.before)} → {_on_one_line(mutant.after)}"


def _on_one_line(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return f"`{line}`" if line else "nothing"


def row_of(trial: Trial) -> Row:
    mutant = trial.mutant
    test = trial.test.removeprefix("tests/").partition("[")[0] or mutant.tests
    return Row(mutant.file, fault(mutant), f"`{test}`", trial.verdict, commit())


def untried(mutant: Mutant) -> Row:
    return Row(mutant.file, fault(mutant), f"`{mutant.tests}`", "not tried", "")


def is_untried(mutant: Mutant) -> bool:
    return all((row.file, row.fault) != (mutant.file, fault(mutant)) for row in tried())


def commit() -> str:
    """The short name of the tree's commit, with a + where files of it were changed since."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{PAGE}")
    return _git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def _git(*options: str) -> str:
    done = subprocess.run(["git", *options], cwd=ROOT, capture_output=True, check=True, text=True)
    return done.stdout.strip()


def tried() -> list[Row]:
    """The rows of the page that have an outcome."""
    if not PAGE.is_file():
        return []
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
    ]
    rows = [Row(*row) for row in cells if len(row) == len(Row._fields)]
    return [row for row in rows if row.file.endswith(".py") and row.outcome in VERDICTS[:3]]


def updated(mutants: Iterable[Mutant], trials: Iterable[Trial]) -> list[Row]:
    """A row for each mutant: of its trial, or else of the page, or else that it was not tried."""
    known = {(row.file, row.fault): row for row in [*tried(), *map(row_of, trials)]}
    return [known.get((m.file, fault(m)), untried(m)) for m in mutants]


def write(rows: list[Row]) -> None:
    text = f"{_HEAD}{counts(rows)}\n{_table(Row._fields, rows)}"
    PAGE.write_text(text, encoding="utf-8")


def counts(rows: list[Row]) -> str:
    """How many ended how, by part of the package."""
    parts = sorted({row.part for row in rows})
    ended = Counter((row.part, row.outcome) for row in rows)
    table = [(part, *(ended[part, verdict] for verdict in VERDICTS)) for part in parts]
    total = ("all", *(sum(row.outcome == verdict for row in rows) for verdict in VERDICTS))
    return _table(("part", *VERDICTS), [*table, total])


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
