"""Faults planted one at a time, to see that the tests fail: `python -m tests.mutants --help`."""
