"""The house rules of src/hvax that its own text shows: who may import whom, and what is banned."""

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

import hvax

ROOT = Path(hvax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A file may import from its own row and the rows before it, without circles; data stands beside.
LIBRARY = [
    {
        "checks",
        "batch",
        "devices",
        "exceptions",
        "compile_cache",
        "quick_compile",
        "wording",
        "precision",
        "progress",
    },
    {"parameters"},
    {"hamiltonian"},
    {"models"},
    {"objectives", "storage", "checked_data"},
    {"training", "evaluation"},
    {"report", "pipeline"},
]
LEVEL = {name: level for level, row in enumerate(LIBRARY) for name in row}
PROGRAM = len(LIBRARY)  # config, cli and whatever else there is: nothing above imports them
READS_DATA = {"data", "checked_data", "training", "evaluation", "report", "pipeline"}


def part(path: Path) -> str:
    """The package or module of hvax that a file belongs to; "" for hvax/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it; of `from a import b`, a.b."""
    package = ".".join(("hvax", *path.relative_to(ROOT).parent.parts))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def parts_imported(path: Path) -> set[str]:
    """Which parts of hvax a file imports; "" where it imports from hvax itself a public name."""
    names = (name.split(".") for name in imported(path))
    tops = {(name[1:] or [""])[0] for name in names if name[0] == "hvax"}
    known = {part(file) for file in FILES}
    return {top if top in known else "" for top in tops - {"__version__"}}


def of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def level(name: str) -> int:
    return LEVEL.get(name, PROGRAM)


@pytest.mark.parametrize("path", FILES, ids=of)
def test_imports_go_one_way(path):
    here, there = part(path), parts_imported(path) - {part(path), "data"}
    if here == "data":
        assert there <= {"batch", "checks", "exceptions", "wording"}, (
            "data stands beside the rows above the first"
        )
    elif here == "":
        assert all(level(name) < PROGRAM for name in there), "import hvax loads no program"
    else:
        assert "" not in there, "import from where a name is defined, not from hvax"
        assert all(level(name) <= level(here) for name in there), there
        reads_data = "data" in parts_imported(path)
        assert not reads_data or here in READS_DATA or level(here) == PROGRAM


def test_no_two_parts_import_each_other():
    graph: dict[str, set[str]] = {}
    for path in FILES:
        if part(path):
            graph.setdefault(part(path), set()).update(parts_imported(path) - {part(path)})
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("path", FILES, ids=of)
def test_banned_words(path):
    """No pickle, no private JAX, no super(), no hasattr: read from the tree, not from the text."""
    for name in imported(path):
        assert name.split(".")[0] not in {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
        assert not f"{name}.".startswith("jax._src.")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            # scikit-learn's own classes hand their tags on by super().
            banned = {"hasattr"} if part(path) == "sklearn" else {"super", "hasattr"}
            assert node.id not in banned, node.lineno
        if isinstance(node, ast.Attribute):
            assert node.attr != "_src", node.lineno
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert getattr(node.value, "value", None) is False, node.value.lineno


IMPORT = """
import sys
import jax
before = dict(jax.config.values)
import hvax
assert dict(jax.config.values) == before, "import hvax changed a setting of JAX"
assert not {"matplotlib", "jinja2"} & sys.modules.keys(), "imported where a page is written"
assert not {"hvax.config", "hvax.cli", "hvax.sklearn", "sklearn"} & sys.modules.keys()
try:
    jax.numpy.zeros(())
except RuntimeError:
    print("none ran before this one")
"""


def test_import_runs_no_jax_operation_and_changes_no_setting():
    """With a platform that does not exist, the first JAX operation of any kind raises."""
    environment = os.environ | {"JAX_PLATFORMS": "nonexistent"}
    command = [sys.executable, "-W", "error", "-c", IMPORT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "none ran before this one\n"), done.stderr
