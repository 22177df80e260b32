"""How options appear in the help: the text of each, and what stands for its value."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform

import tyro

T = TypeVar("T")


def optional(metavar: str) -> Any:
    """Metadata of an option that may be left out: what stands for its value in the help. Its text
    says what happens then, so the help prints no default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


OptionalInt = Annotated[int | None, optional("INT")]
OptionalFloat = Annotated[float | None, optional("FLOAT")]
OptionalPath = Annotated[Path | None, optional("PATH")]
OptionalName = Annotated[str | None, optional("NAME")]
OptionalColumns = Annotated[tuple[str, ...] | None, optional("COLUMN [COLUMN ...]")]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def options(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass whose string below each field is the field's help.

    Options of a base class, which several commands share, come after the class's own in the help.
    """
    # tyro itself keeps the line breaks of such a string, which then fall in the middle of its own
    # lines. Here each paragraph becomes one line, which tyro breaks at the terminal's width.
    made = dataclass(frozen=True, kw_only=True)(cls)
    texts = dict(_texts(cls))
    table: dict[str, Any] = vars(made)["__dataclass_fields__"]  # its order is that of the help
    for name in [
        *cls.__annotations__,
        *(name for name in table if name not in cls.__annotations__),
    ]:
        table[name] = table.pop(name)
    for name, text in texts.items():  # a group of options has the text of its class instead
        table[name].metadata = {**table[name].metadata, "help": text}
    return made


def _texts(cls: type) -> Iterator[tuple[str, str]]:
    """The string below each field, each paragraph as one line."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(definition, ast.ClassDef)
    for node, below in pairwise(definition.body):
        match node, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                paragraphs = inspect.cleandoc(text).split("\n\n")
                yield name, "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
