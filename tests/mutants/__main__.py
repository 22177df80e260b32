"""Plants each fault of the table and runs the tests that should see it.

    python -m tests.mutants [PART ...] [--jobs 2]

PART picks the mutants whose file, text or tests hold it. Exit code 1 where one survived.
"""

import argparse
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.mutants.mutant import Mutant, check, try_
from tests.mutants.table import MUTANTS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", help="of the file, the text or the tests")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if _is_chosen(mutant, options.part)]
    for mutant in chosen:
        check(mutant)
    verdicts: Counter[str] = Counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        for trial in as_completed([pool.submit(try_, mutant) for mutant in chosen]):
            found = trial.result()
            verdicts[found.verdict] += 1
            print(f"{found.verdict:8} {found.mutant.name}  {found.says}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    return int(verdicts["killed"] < len(chosen))


def _is_chosen(mutant: Mutant, parts: list[str]) -> bool:
    text = f"{mutant.file} {mutant.before} {mutant.tests}"
    return not parts or any(part in text for part in parts)


if __name__ == "__main__":
    sys.exit(main())
