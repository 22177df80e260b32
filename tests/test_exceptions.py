"""Warnings have names, and docs/warnings.md explains every one."""

import re
import warnings
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

import hvax
from hvax.exceptions import FailedDraws, HvaxWarning, SkippedUpdate, warn
from models_for_tests import linear_gaussian

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


def test_a_warning_points_to_the_line_of_the_user():
    """Also from below hvax, and JAX inside it; seen to fail with a fixed stack level."""
    x = np.ones((2, 2), np.float32)
    model = linear_gaussian(features=2)
    broken = eqx.tree_at(lambda m: m.decoder.network, model, lambda z: z[:2] * np.nan)
    with pytest.warns(FailedDraws) as told:
        hvax.evaluate(broken, x, key=jax.random.key(0), num_samples=2, progress=False)
    assert {one.filename for one in told} == {__file__}


def test_a_warning_is_switched_off_or_an_error_by_its_class():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedUpdate)
        warn(SkippedUpdate, "nothing")
        warnings.simplefilter("error", HvaxWarning)
        with pytest.raises(SkippedUpdate, match="skipped-update: nothing"):
            warn(SkippedUpdate, "nothing")
