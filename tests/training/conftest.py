"""What the tests of training share."""

import logging

import jax
import pytest


@pytest.fixture
def compilations(caplog):
    """compilations(name): how often a function of that name was compiled so far in this test."""
    caplog.set_level(logging.WARNING)

    def count(name: str) -> int:
        wanted = f"XLA compilation of jit({name})"
        return sum(wanted in record.getMessage() for record in caplog.records)

    with jax.log_compiles():
        yield count
