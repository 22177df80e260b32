"""Every test runs with JAX's own checks on: key reuse, rank promotion, and shapes by jaxtyping."""

import itertools
import os
import signal
from pathlib import Path

import jax
import pytest

from settings_for_tests import QUICK, settings

TESTS = Path(__file__).parent
# In float32 a test's programs are compiled quickly, except where much is computed; in float64 as
# users' programs are.
FULLY_COMPILED = ("laws/test_evaluation_truth.py",)
# The program sets its precision itself, and a page looks the same: never done in float64.
SET_THEIR_PRECISION = (
    "commands/",
    "first_try/",
    "models/test_counts.py",
    "models/test_gaussian.py",
    "models/test_numerics.py",
    "pipeline/",
    "report/test_browser.py",
    "storage/test_files.py",
    "storage/test_lock.py",
    "storage/test_temporary.py",
    "test_advice.py",
    "test_benchmarks.py",
    "test_cli.py",
    "test_docs.py",
    "test_endings.py",
    "test_exceptions.py",
    "test_experiments.py",
    "test_golden.py",
    "test_help.py",
    "test_house.py",
    "test_imports.py",
    "test_progress.py",
    "test_streams.py",
    "test_torture.py",
)
# These read files, compare bits, or know the truth to a standard error: the quick suite does them
# in float32 alone, `make test-all` in both.
IN_ONE_PRECISION = (
    "evaluation/test_ais.py",
    "models/test_mixed.py",
    "data/",
    "estimator/",
    "report/",
    "storage/",
    "evaluation/test_finished.py",
    "evaluation/test_interpolate.py",
    "evaluation/test_latent.py",
    "evaluation/test_outliers.py",
    "evaluation/test_trajectories.py",
    "laws/",
    "models/test_convolution.py",
    "models/test_latent_size.py",
    "models/test_network.py",
    "training/test_few_rows.py",
    "training/test_fit.py",
    "training/test_flow_start.py",
    "training/test_interrupt.py",
    "training/test_offset.py",
    "training/test_optimizer.py",
    "training/test_prepare.py",
    "training/test_resume.py",
    "training/test_same_rows.py",
    "training/test_skipped.py",
)


# One LLVM module per program, not one per kernel: it compiles in two thirds of the time, to slower
# programs. JAX 0.10.2 knows the flag, and an unknown one ends the process; in float64 the programs
# are those that users run. Read when JAX first computes, and by the processes that tests start.
if jax.__version__ == "0.10.2" and not jax.config.read("jax_enable_x64"):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run what only `make test-all` does")


def pytest_configure() -> None:
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_debug_key_reuse", True)
    # A shell has its background processes ignore SIGINT: a test that interrupts would never end.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """True for the files of which the float64 run does nothing: to import them takes seconds."""
    once = SET_THEIR_PRECISION + (() if config.getoption("--slow") else IN_ONE_PRECISION)
    if not jax.config.read("jax_enable_x64") or not collection_path.is_relative_to(TESTS):
        return None
    here = collection_path.relative_to(TESTS).as_posix()
    return True if f"{here}/".startswith(once) or here.startswith(once) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the slow tests, and what takes float64 in either run of the suite once more."""
    wide, everything = jax.config.read("jax_enable_x64"), config.getoption("--slow")
    left_out = [
        item
        for item in items
        if ("slow" in item.keywords and not everything)
        or (wide and "x64" in getattr(item, "fixturenames", ()))
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


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
    wide = jax.config.read("jax_enable_x64")
    with settings(**({} if wide or _path(request).startswith(FULLY_COMPILED) else QUICK)):
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
