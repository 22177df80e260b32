"""Real faults on the real program: kills, system calls that fail, damaged files, a full disk.

    python -m torture            # the long form: `make torture`
    python -m torture --short    # the form that the tests run

Every case trains with `hvax train` in a process of its own, hurts it, resumes it, and compares what
is on disk in the end with an uninterrupted run: every array of model, optimizer and best model, and
every line of metrics.jsonl and skipped.jsonl but for its clock fields, 0 ulp. Prints a table of how
many faults were injected and how many were survived; exits with 1 where one was not.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from torture.faults import CASES, Lab


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=CASES)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hvax-torture-"))
    lab = Lab(folder, short=options.short, seed=options.seed)
    print(f"| {'fault':44} | injected | survived | seconds |\n|---|---|---|---|", flush=True)
    lost = 0
    for name, case in CASES.items():
        if options.only is not None and name not in options.only:
            continue
        began = time.perf_counter()
        for what, injected, survived in case(lab):
            seconds = time.perf_counter() - began
            print(f"| {what:44} | {injected} | {survived} | {seconds:.0f} |", flush=True)
            lost += injected - survived
            began = time.perf_counter()
    for line in lab.notes:
        print(line)
    if lost:
        print(f"{lost} faults were not survived; their runs are kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
