"""Plants each fault of the table and runs the tests that should see it.

    python -m tests.mutants [PART ...] [--jobs 2]

PART picks the mutants whose file, text or tests hold it, and `untried` those that RESULTS.md knows
no outcome of. Writes each outcome to RESULTS.md beside this file. Exit code 1 where one survived.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.mutants import results
from tests.mutants.mutant import Mutant, check, try_
from tests.mutants.table import MUTANTS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", help="of the file, the text or the tests, or untried")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if _is_chosen(mutant, options.part)]
    for mutant in chosen:
        check(mutant)
    trials = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for trial in as_completed([pool.submit(try_, mutant) for mutant in chosen]):
            trials.append(trial.result())
            print(f"{trials[-1].verdict:8} {trials[-1].mutant.name}  {trials[-1].says}", flush=True)
            results.write(results.updated(MUTANTS, [trials[-1]]))
    print(results.counts([results.row_of(trial) for trial in trials]), end="")
    return int(any(trial.verdict != "killed" for trial in trials))


def _is_chosen(mutant: Mutant, parts: list[str]) -> bool:
    if "untried" in parts:
        return results.is_untried(mutant)
    text = f"{mutant.file} {mutant.before} {mutant.tests}"
    return not parts or any(part in text for part in parts)


if __name__ == "__main__":
    sys.exit(main())
