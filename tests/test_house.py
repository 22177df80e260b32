"""The house stays as it is: short files, plain words, short test names, documented public names.

Each list below names what is left to be mended. It may only shrink: an entry that is no longer
needed fails the test, so that it is taken out.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.mutants.mutant import check
from tests.mutants.table import MUTANTS

import hvax

ROOT = Path(__file__).resolve().parents[1]
SOURCE, TESTS = ROOT / "src" / "hvax", ROOT / "tests"
PYTHON = [
    file
    for folder in ("src", "tests", "torture", "experiments", "benchmarks")
    for file in sorted((ROOT / folder).rglob("*.py"))
]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


# Files

MOST_LINES = 300
LONG = {
    "experiments/flows.py",
    "experiments/gaussian.py",
    "experiments/mnist.py",
    "tests/commands/test_inputs.py",
    "tests/commands/test_resume.py",
    "tests/data/test_arrays.py",
    "tests/evaluation/test_evaluate.py",
    "tests/hamiltonian/test_family.py",
    "tests/hamiltonian/test_flow.py",
    "tests/laws/test_closed_form.py",
    "tests/models/test_likelihood.py",
    "tests/storage/test_checkpoint.py",
    "tests/storage/test_run_folder.py",
    "tests/storage/test_structure.py",
    "tests/storage/test_structure_damage.py",
    "tests/storage/test_structure_files.py",
    "tests/storage/test_structure_like.py",
    "tests/test_cli.py",
    "tests/test_experiments.py",
    "tests/test_objectives.py",
    "tests/training/test_fit.py",
    "tests/training/test_resume.py",
    "tests/training/test_skipped.py",
    "torture/faults.py",
}


def test_files_are_short():
    """One idea a file: at most 300 lines."""
    lengths = {named(file): len(file.read_text(encoding="utf-8").splitlines()) for file in PYTHON}
    long = {name for name, lines in lengths.items() if lines > MOST_LINES}
    assert not long - LONG, "split them"
    assert not LONG - long, "take them out of LONG"


# Names

# The words of the first version, and their parts in a name that is joined by underscores.
PRIVATE = re.compile(r"door|caution|sealed|unsealed|wild|tame|trouble", re.IGNORECASE)
BRITISH = re.compile(
    r"binaris|optimis[ei]|colour|grey|standardis|normalis|initialis|serialis|regularis|summaris"
    r"|behaviour|neighbour|favour|centred|analyse[ds]?\b",
    re.IGNORECASE,
)
OLD_NAMES: set[str] = set()


def names_in(file: Path) -> Iterator[str]:
    """What a file defines and assigns: modules, functions, classes, arguments, variables."""
    yield file.stem
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_old_names_do_not_come_back():
    """`held` named a lock; a variable may be called so, a function or a file may not."""
    found = set()
    for file in PYTHON:
        words = {word for name in names_in(file) for word in name.split("_")}
        if any(PRIVATE.fullmatch(word) for word in words):
            found.add(named(file))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.FunctionDef) and node.name == "held"), named(file)
    assert not found - OLD_NAMES, "take a plain word"
    assert not OLD_NAMES - found, "take them out of OLD_NAMES"


def test_spelling_is_american():
    """Of names, comments, messages and pages."""
    mine = Path(__file__).resolve()
    texts = {named(f): f.read_text(encoding="utf-8") for f in [*PYTHON, *PAGES] if f != mine}
    found = {name for name, text in texts.items() if BRITISH.search(text)}
    assert not found, "American spelling, please"


def test_test_names_are_short():
    """At most 60 characters."""
    long = [
        f"{named(file)}: {node.name}"
        for file in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > 60
    ]
    assert not long


# Public names

WITHOUT_SHAPES = {
    "Fixed",
    "FlowResult",
    "HVAE",
    "JointGaussian",
    "MLP",
    "SplitGaussian",
    "hamiltonian_elbo",
    "importance_weighted_bound",
    "train_state",
}
WITHOUT_ERRORS = {
    "DiagonalGaussian",
    "Draw",
    "Fixed",
    "FlowResult",
    "JointGaussian",
    "SplitGaussian",
    "hamiltonian_elbo",
}
SHAPE = re.compile(r"\bshape|\bvector|\bbatch axis|\bscalar|`?\((n|d|K|batch)\b|\[(n|d|batch)\b")
ERROR = re.compile(r"\b[Rr]aise[sd]?\b|ValueError|TypeError|\brefuse[sd]?\b")


def own_docstring(name: str) -> str:
    """Not one that a class inherits."""
    thing = getattr(hvax, name)
    return (thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__) or ""


def takes_arrays(name: str) -> bool:
    signature = str(inspect.signature(getattr(hvax, name)))
    return bool(re.search("Array|Examples|Batch|ndarray", signature))


def test_the_public_surface_is_listed():
    """Each once, in order, at most 60 of them."""
    assert len(set(hvax.__all__)) == len(hvax.__all__) <= 60
    assert all(hasattr(hvax, name) for name in hvax.__all__)


@pytest.mark.parametrize("name", hvax.__all__)
def test_a_public_name_has_a_docstring(name):
    first = own_docstring(name).strip().split("\n\n")[0]
    assert len(first) >= 8 and first.rstrip()[-1] in ".:;,", "one sentence that says what it does"


def test_public_names_tell_shapes_and_errors():
    """Those that take arrays."""
    arrays = [name for name in hvax.__all__ if takes_arrays(name)]
    shapeless = {name for name in arrays if not SHAPE.search(own_docstring(name))}
    silent = {name for name in arrays if not ERROR.search(own_docstring(name))}
    assert not shapeless - WITHOUT_SHAPES, "name the shapes"
    assert not WITHOUT_SHAPES - shapeless, "take them out of WITHOUT_SHAPES"
    assert not silent - WITHOUT_ERRORS, "say what is raised"
    assert not WITHOUT_ERRORS - silent, "take them out of WITHOUT_ERRORS"


# Planted faults


def test_planted_faults_follow_the_code():
    """Each text stands once in its file, and the tests that should see it are run by `make test`:
    python -m tests.mutants plants them all."""
    assert len(MUTANTS) >= 100
    for mutant in MUTANTS:
        check(mutant)
        for test in mutant.tests.split():
            file, _, name = test.partition("::")
            text = (TESTS / file).read_text(encoding="utf-8")
            assert not name or re.search(rf"^def {name}\(", text, re.MULTILINE), test
            assert not re.search(rf"^@pytest.mark.slow\n(@.*\n)*def {name}\(", text, re.M), test
