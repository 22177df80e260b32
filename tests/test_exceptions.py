"""Warnings have names, and docs/warnings.md explains every one."""

import re
import warnings
from pathlib import Path

import pytest

from hvax.exceptions import HvaxWarning, SkippedUpdate, warn

WARNINGS = Path(__file__).parents[1] / "docs" / "warnings.md"
# A test elsewhere may define one of its own.
KINDS = [kind for kind in HvaxWarning.__subclasses__() if kind.__module__ == "hvax.exceptions"]


def test_every_warning_is_defined_in_one_place():
    """Seen to fail on a warning defined beside its use."""
    elsewhere = [kind for kind in HvaxWarning.__subclasses__() if kind.__module__[:4] == "hvax"]
    assert elsewhere == KINDS and len(KINDS) >= 5
    assert issubclass(HvaxWarning, UserWarning)


@pytest.mark.parametrize("kind", KINDS)
def test_a_warning_has_a_name_of_its_own(kind):
    """The words of its class, with hyphens; seen to fail on two of the same name."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.name)
    assert kind.name.replace("-", "") == kind.__name__.lower()
    assert [other for other in KINDS if other.name == kind.name] == [kind]
    assert kind.__doc__


def test_the_warnings_and_no_others_have_headings_in_the_docs():
    headings = re.findall(r"^#{2,} +`?([a-z-]+)`?\s*$", WARNINGS.read_text(), re.M)
    assert sorted(headings) == sorted(kind.name for kind in KINDS)


def test_a_warning_begins_with_its_name():
    with pytest.warns(SkippedUpdate) as told:
        warn(SkippedUpdate, "it was left out.")
    assert [str(one.message) for one in told] == ["skipped-update: it was left out."]


def test_a_warning_is_switched_off_or_an_error_by_its_class():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedUpdate)
        warn(SkippedUpdate, "nothing")
        warnings.simplefilter("error", HvaxWarning)
        with pytest.raises(SkippedUpdate, match="skipped-update: nothing"):
            warn(SkippedUpdate, "nothing")
