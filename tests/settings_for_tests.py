"""JAX's settings in a test, and which tests `make test` leaves to `make test-all`."""

import contextlib
from collections.abc import Container, Iterable
from typing import Any

import jax
import pytest

SETTINGS = ("jax_enable_x64", "jax_disable_most_optimizations")
# It compiles in half the time, to the same numbers but for rounding.
QUICK = {"jax_disable_most_optimizations": True}


@contextlib.contextmanager
def settings(**changes):
    """JAX's settings, changed within and afterwards as they were; `hvax.cli.main` changes them."""
    before = {name: jax.config.read(name) for name in SETTINGS}
    try:
        for name, value in changes.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def slow(value: Any) -> Any:
    """A value of a parametrization that `make test-all` alone runs."""
    return pytest.param(value, marks=pytest.mark.slow)


def but_slow(values: Iterable[Any], *, keep: Container[Any]) -> list[Any]:
    """The values of a parametrization, of which `make test` runs those to keep."""
    return [value if value in keep else slow(value) for value in values]
