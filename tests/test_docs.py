"""The documentation runs, and says of signatures, links, flags and dependencies what is so.

Every Python block of README.md and docs/*.md is executed; the blocks of a page share a namespace,
in order. A table with the header "reference | hvax" maps another package's names to hvax's: what
stands in code in its right column is a name, with its signature where it has parentheses.
"""

import ast
import inspect
import itertools
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pytest
import tyro

import hvax
from hvax.cli import COMMANDS
from settings_for_tests import QUICK, settings, slow

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SPAN = re.compile(r"`([^`]+)`")
MAPPING = "| reference | hvax |"
LONG = ("flows.md", "python.md", "your-own.md")  # half a minute between them


class Block(NamedTuple):
    """What stands between two fences."""

    language: str
    line: int  # of the opening fence, from 1
    code: str


class Section(NamedTuple):
    """A page's text up to the next heading of the second level."""

    title: str
    blocks: list[Block]
    rows: list[str]  # right-hand cells of its mapping tables


def sections(page: Path) -> list[Section]:
    found = [Section(page.name, [], [])]
    lines = iter(enumerate(page.read_text().splitlines(), start=1))
    mapping = False
    for number, line in lines:
        if line.startswith("```"):
            code = []
            for _, inside in lines:
                if inside.startswith("```"):
                    break
                code.append(inside)
            found[-1].blocks.append(Block(line[3:].strip(), number, "\n".join(code) + "\n"))
        elif line.startswith("## "):
            found.append(Section(line[3:], [], []))
        mapping = line == MAPPING or (mapping and line.startswith("|"))
        if mapping and line != MAPPING and not line.startswith("|-"):
            found[-1].rows.append(line.strip("| ").split(" | ")[1])
    return found


def python(section: Section) -> list[Block]:
    return [block for block in section.blocks if block.language == "python"]


def names_in(code: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(code)))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    signature = inspect.signature(function)
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


def written(arguments: str) -> Any:
    """A function with the arguments that a table prints."""
    scope: dict[str, Any] = {"jax": jax, "hvax": hvax}
    exec(f"def function{arguments}: ...", scope)
    return scope["function"]


def resolve(name: str, namespace: dict[str, Any]) -> Any:
    first, *rest = name.split(".")
    thing = getattr(hvax, first) if hasattr(hvax, first) else namespace[first]
    for attribute in rest:
        thing = getattr(thing, attribute)
    return thing


@pytest.fixture(scope="module")
def quick_compilation():
    """Snippets compute little: compiling them is what takes time. Nothing of it is left behind."""
    with settings(**QUICK):
        yield
    jax.clear_caches()


@pytest.mark.parametrize(
    "page",
    [slow(page) if page.name in LONG else page for page in PAGES],
    ids=[page.name for page in PAGES],
)
@pytest.mark.usefixtures("quick_compilation")
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # where classes look for their module
    for section in sections(page):
        for block in python(section):
            # Blank lines before it, so that a traceback has the page's line numbers.
            source = "\n" * block.line + block.code
            exec(compile(source, str(page), "exec"), vars(module))
        for span in (span for cell in section.rows for span in SPAN.findall(cell)):
            name, parenthesis, arguments = span.partition("(")
            thing = resolve(name, vars(module))
            if parenthesis:
                printed = parameters(written(parenthesis + arguments))
                assert printed == parameters(thing), f"{section.title}: `{span}`"


MAPPED = [s for page in PAGES for s in sections(page) if s.rows]


@pytest.mark.parametrize("section", MAPPED, ids=lambda section: section.title)
def test_every_row_of_a_mapping_is_used_in_its_section(section):
    used = names_in("".join(block.code for block in python(section)))
    for cell in section.rows:
        spans = SPAN.findall(cell)
        assert spans, f"no name in {cell!r}"
        for span in spans:
            assert span.partition("(")[0].rpartition(".")[2] in used, f"`{span}` is in no snippet"


def test_the_mapping_is_there():
    """The two tests above see nothing where no table has the header."""
    assert sum(len(section.rows) for section in MAPPED) >= 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_files_that_the_architecture_names_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = [file.as_posix() for file in ROOT.rglob("*.py")]
    named = [span for span in SPAN.findall(text) if span.endswith(".py")]
    assert len(named) > 40
    new = {"hamiltonian/learned_momentum.py", "hamiltonian/riemannian.py"}  # of the sketches
    for name in set(named) - new:
        assert any(file.endswith(f"/{name}") for file in files), name


def test_the_programs_commands_and_flags_exist():
    lines = [
        line
        for page in PAGES
        for section in sections(page)
        for block in section.blocks
        if block.language in ("sh", "")
        for line in block.code.replace("\\\n", " ").splitlines()
        if line.startswith("hvax ") and "--help" not in line
    ]
    assert lines
    for line in lines:
        _, command, *arguments = shlex.split(line, comments=True)
        tyro.cli(COMMANDS[command][0], args=arguments, config=(tyro.conf.OmitArgPrefixes,))


def test_every_dependency_is_explained_and_no_other():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = settings["project"]
    asked = [*project["dependencies"], *settings["build-system"]["requires"]]
    asked += itertools.chain(*project["optional-dependencies"].values())
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in asked} - {project["name"]}
    text = (ROOT / "docs" / "dependencies.md").read_text()
    assert set(re.findall(r"^\| `([\w-]+)`", text, flags=re.MULTILINE)) == names
