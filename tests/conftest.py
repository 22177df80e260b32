"""Every test runs with JAX's own checks on: key reuse, rank promotion, and shapes by jaxtyping."""

import jax
import pytest

from settings_for_tests import settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_configure() -> None:
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_debug_key_reuse", True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: run with --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def settings_as_before():
    """A test leaves the precision of the process to the next as it found it."""
    with settings():
        yield


@pytest.fixture
def x64():
    """float64 in a test, whatever the suite runs in."""
    with jax.enable_x64(True):
        yield
