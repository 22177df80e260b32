"""The help of every command: each option explained, in lines that fill the terminal."""

import re
from dataclasses import fields, is_dataclass
from typing import get_args, get_type_hints

import pytest

from hvax.cli import COMMANDS, main
from hvax.config.help import options


def shown(command: str, capsys) -> list[str]:
    """The lines of a command's help, without the frame around them."""
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    return [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]


def explained(kind: type) -> list[tuple[str, str | None]]:
    """Every option of a command, or of a group of options in it, with its help."""
    found, hints = [], get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if is_dataclass(field.default_factory):
            found += explained(field.default_factory)
            continue
        of_type = [getattr(note, "help", None) for note in get_args(hints[field.name])]
        text = field.metadata.get("help") or next(filter(None, of_type), None)
        found.append((f"{kind.__name__}.{field.name}", text))
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_help_of_whole_sentences(command):
    for name, text in explained(COMMANDS[command][0]):
        assert text and text.splitlines()[0].endswith("."), name


@pytest.mark.parametrize("command", COMMANDS)
def test_no_type_of_python_stands_in_the_help(command, monkeypatch, capsys):
    """Seen to fail on `{None}|STR`, which tyro prints where no metavar is given."""
    monkeypatch.setenv("COLUMNS", "80")
    assert not re.search(r"None|\bSTR\b|\|(?! z\])[A-Z]", "\n".join(shown(command, capsys)))


def test_a_paragraph_of_a_help_is_one_line():
    @options
    class Two:
        """Two options."""

        first: int = 1
        """One sentence on
        two lines.

        Example: two --first 2"""
        second: int = 2

    texts = [field.metadata.get("help") for field in fields(Two)]
    assert texts == ["One sentence on two lines.\nExample: two --first 2", None]
    assert Two() == Two(first=1, second=2)
