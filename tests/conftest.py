"""Every test runs with JAX's own checks on: key reuse, rank promotion, and shapes by jaxtyping."""

import itertools
from pathlib import Path

import jax
import pytest

from settings_for_tests import QUICK, settings

TESTS = Path(__file__).parent
COMPILED_QUICKLY = (
    "commands/",
    "pipeline/",
    "report/",
    "storage/",
    "training/",
    "test_experiments.py",
)  # little is computed there
# The program sets its precision itself, and a page looks the same: once is enough.
IN_ONE_PRECISION = (
    "commands/",
    "pipeline/",
    "report/test_browser.py",
    "storage/test_files.py",
    "storage/test_lock.py",
    "storage/test_temporary.py",
    "test_cli.py",
    "test_docs.py",
    "test_endings.py",
    "test_experiments.py",
    "test_golden.py",
    "test_torture.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_configure() -> None:
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_debug_key_reuse", True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = pytest.mark.skip(reason="slow: run with --slow")
    if jax.config.read("jax_enable_x64"):
        # Nor is what takes float64 in either run of the suite done again.
        once = [
            item
            for item in items
            if _path(item).startswith(IN_ONE_PRECISION)
            or "x64" in getattr(item, "fixturenames", ())
        ]
        config.hook.pytest_deselected(items=once)
        items[:] = [item for item in items if item not in once]
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(slow)


def _path(node: pytest.Item | pytest.FixtureRequest) -> str:
    return node.path.relative_to(TESTS).as_posix()


_tests_run = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs():
    """Each compiled program maps pieces of memory, of which Linux gives a process 65,530; the
    compiler crashes where it gets none. Looked at after every tenth test: that takes a while."""
    yield
    if next(_tests_run) % 10 == 0:
        maps = Path("/proc/self/maps")
        if maps.exists() and maps.read_bytes().count(b"\n") > 25_000:
            jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request):
    with settings(**(QUICK if _path(request).startswith(COMPILED_QUICKLY) else {})):
        yield


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
