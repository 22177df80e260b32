"""Real tables at the first try: `hvax train FILE` and `hvax.fit`, each by its defaults.

    python -m tests.first_try                     # every data set that has no result yet
    python -m tests.first_try --only iris bits    # these
    python -m tests.first_try --again             # also what has a result
    python -m tests.first_try --check             # and exit with 1 where not all is in order
    python -m tests.first_try --table             # and write the table of docs/first-try.md
    python -m tests.first_try --table --no-run    # of what there is

Each data set is a file in build/first-try/data, made or taken out of a package's wheel the first
time; a result is a file in build/first-try/results, and the logs lie in build/first-try/runs.
In order is: exit code 0, a finite ELBO on test rows above that of independent features, at most 5
skipped updates, at most 60 seconds.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from experiments.common import write
from tests.first_try.runs import run
from tests.first_try.sets import SETS
from tests.first_try.table import markdown
from tests.first_try.verdict import Record, judged

RESULTS = Path("build/first-try/results")
PAGE = Path("docs/first-try.md")
BEGIN, END = "<!-- the table: python -m tests.first_try --table -->", "<!-- its end -->"


def main() -> int:
    options = _options()
    for name in () if options.no_run else options.only:
        if options.again or not _path(name).exists():
            _try(name)
    records = [json.loads(_path(name).read_text()) for name in SETS if _path(name).exists()]
    if options.table:
        write_page(records)
    if not options.check:
        return 0
    wrong = [(r["name"], text) for r in records for text in judged(r).failures]
    wrong += [(name, "has no result") for name in SETS if not _path(name).exists()]
    for name, text in wrong:
        print(f"{name}: {text}")
    print(f"{len(SETS)} data sets, {len({name for name, _ in wrong})} not in order")
    return 1 if wrong else 0


def _try(name: str) -> None:
    began = time.perf_counter()
    print(f"{name} ...", end=" ", flush=True)
    write(_path(name), record := run(SETS[name]))
    failures, remarks = judged(record)
    said = "; ".join(failures) or f"in order{''.join(f'; {text}' for text in remarks)}"
    print(f"{time.perf_counter() - began:.0f} s: {said}", flush=True)


def write_page(records: list[Record]) -> None:
    """The table between its two marks in docs/first-try.md."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{markdown(records)}\n\n{END}{after}")


def _path(name: str) -> Path:
    return RESULTS / f"{name}.json"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=tuple(SETS), default=list(SETS))
    parser.add_argument("--again", action="store_true", help="run also what has a result")
    parser.add_argument("--check", action="store_true", help="exit with 1 for what is not in order")
    parser.add_argument("--table", action="store_true", help="write the table of docs/first-try.md")
    parser.add_argument("--no-run", action="store_true", help="take the results that are there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
