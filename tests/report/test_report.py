"""A report of every kind of model and data is whole; what it holds depends on the kind."""

import dataclasses

import jax
import numpy as np
import pytest

from hvax.report.report import Report, write_report
from reports_for_tests import KINDS, check_page, tiny_run

# A report without these has the sections that every report has.
SECTIONS = {
    "long_counts": {"training", "latent", "posteriors"},
    "tiny_run": {"training", "latent", "posteriors", "flow", "options"},
    "vectors": {"latent", "posteriors", "flow", "training"},
    "counts": {"training"},
    "classes": {"training", "latent", "posteriors"},
    "images_of_classes": {"training", "latent", "posteriors"},
    "colours": {"training", "latent", "posteriors", "flow"},
    "channels_first": {"training", "latent", "posteriors"},
    "broken": {"flow"},
}
ALWAYS = {"numbers", "reconstructions", "samples", "all"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_of_this_kind(kind, tmp_path):
    report, path = KINDS[kind](), tmp_path / "report.html"
    write_report(report, path, key=jax.random.key(1))
    page = check_page(path.read_text(encoding="utf-8"))
    assert {section["id"] for section in page.all("section")} == SECTIONS[kind] | ALWAYS
    assert path.stat().st_size < 2_000_000
    assert list(tmp_path.iterdir()) == [path], "a temporary file was left"


def test_the_same_key_gives_the_same_file(tmp_path):
    report = tiny_run()
    for name in ("a", "b"):
        write_report(report, tmp_path / name, key=jax.random.key(1))
    write_report(report, tmp_path / "c", key=jax.random.key(2))
    first, second, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second != other


def test_a_file_that_is_there_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")
    report = KINDS["counts"]()
    with monkeypatch.context() as patch:
        patch.setattr("hvax.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            write_report(report, path, key=jax.random.key(0))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    write_report(report, path, key=jax.random.key(0))
    check_page(path.read_text(encoding="utf-8"))


def test_labels_must_match():
    report = KINDS["counts"]()
    with pytest.raises(ValueError, match="one per test example, got 3 labels for 40"):
        dataclasses.replace(report, labels=np.arange(3))


def test_large_data_are_sampled(tmp_path):
    """Ten thousand points make no larger page than a few hundred, and labels stay with theirs."""
    small = KINDS["vectors"]()
    many = np.tile(small.test.stored, (200, 1))
    labels = np.tile(small.labels, 200)
    path = tmp_path / "report.html"
    report = dataclasses.replace(
        small, test=dataclasses.replace(small.test, stored=many), labels=labels
    )
    assert isinstance(report, Report)
    write_report(report, path, key=jax.random.key(0))
    assert path.stat().st_size < 2_000_000
    check_page(path.read_text(encoding="utf-8"))
