"""A report of every kind of model and data is whole; what it holds depends on the kind."""

import base64
import dataclasses

import jax
import numpy as np
import pytest

from hvax.report.inputs import ReportInputs
from hvax.report.report import write_page
from reports_for_tests import KINDS, check_page, tiny_run

# A report without these has the sections that every report has.
SECTIONS = {
    "long_counts": {"training", "latent", "posteriors"},
    "tiny_run": {"training", "latent", "posteriors", "flow", "options"},
    "vectors": {"latent", "posteriors", "flow", "training"},
    "counts": {"training"},
    "classes": {"training", "latent", "posteriors"},
    "images_of_classes": {"training", "latent", "posteriors"},
    "colors": {"training", "latent", "posteriors", "flow"},
    "channels_first": {"training", "latent", "posteriors"},
    "table": {"training", "latent", "posteriors", "options"},
    "series": {"training", "latent", "posteriors", "flow"},
    "broken": {"flow"},
}
ALWAYS = {"numbers", "reconstructions", "samples", "all"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_of_this_kind(kind, tmp_path):
    report, path = KINDS[kind](), tmp_path / "report.html"
    write_page(report, path, key=jax.random.key(1))
    page = check_page(path.read_text(encoding="utf-8"))
    assert {section["id"] for section in page.all("section")} == SECTIONS[kind] | ALWAYS
    assert path.stat().st_size < 2_000_000
    assert list(tmp_path.iterdir()) == [path], "a temporary file was left"


@pytest.mark.slow
def test_the_same_key_gives_the_same_file(tmp_path):
    report = tiny_run()
    for name in ("a", "b"):
        write_page(report, tmp_path / name, key=jax.random.key(1))
    write_page(report, tmp_path / "c", key=jax.random.key(2))
    first, second, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second != other


def test_a_file_that_is_there_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")
    report = KINDS["counts"]()
    with monkeypatch.context() as patch:
        patch.setattr(
            "hvax.storage.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("full"))
        )
        with pytest.raises(OSError, match="full"):
            write_page(report, path, key=jax.random.key(0))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    write_page(report, path, key=jax.random.key(0))
    check_page(path.read_text(encoding="utf-8"))


def test_a_table_is_shown_by_its_names(tmp_path):
    """Names of columns and classes, references, what failed, and numbers of every size."""
    report, path = KINDS["table"](), tmp_path / "report.html"
    write_page(report, path, key=jax.random.key(1))
    text = path.read_text(encoding="utf-8")
    page = check_page(text)
    alts = [image["alt"] for image in page.all("img")]
    (back,) = (alt for alt in alts if alt.startswith("Reconstruction"))
    for name in ("pressure [Pa]", "a concentration that has a long n…", "_mass", "$x$", "constant"):
        assert name in back
    assert "feature 0" not in back and "constant r = –" in back
    assert any("labels benign, malignant" in alt for alt in alts)
    assert "Test point" in text and "(malignant): " in text
    assert "Independent features" in text and "the model is 0.50 worse" in text
    assert "the model is 3.00 better" in text and "has a higher NLL than the reference" in text
    assert "The flow was switched off." in text and "looks like a row number" in text
    assert "after the flow" not in text, "a flow of no steps moves nothing"
    drawn = "".join(decoded(image["src"]) for image in page.all("img") if "svg" in image["src"])
    for words in ("in 10⁹", "in 10⁻⁹", "pressure [Pa]", "draws of the encoder", "latent 0"):
        assert words in drawn
    assert "latent 2" not in drawn, "two dimensions: 0 and 1"


@pytest.mark.slow
def test_series_are_curves(tmp_path):
    report, path = KINDS["series"](), tmp_path / "report.html"
    write_page(report, path, key=jax.random.key(1))
    page = check_page(path.read_text(encoding="utf-8"))
    alts = " ".join(image["alt"] for image in page.all("img"))
    assert "6 series and their reconstructions" in alts and "8 series of the test data" in alts
    assert "colored by their labels, which are numbers" in alts
    drawn = "".join(decoded(image["src"]) for image in page.all("img") if "svg" in image["src"])
    for words in ("left", "right", "test point 0", "position", "quantiles", "after the flow"):
        assert words in drawn


def decoded(uri):
    """The text of a picture."""
    return base64.b64decode(uri.partition(",")[2]).decode()


def test_names_must_match():
    report = KINDS["counts"]()
    with pytest.raises(
        ValueError, match=r"one per feature, 4 for examples of shape .* got 3 names"
    ):
        dataclasses.replace(report, feature_names=["a", "b", "c"])


def test_labels_must_match():
    report = KINDS["counts"]()
    with pytest.raises(ValueError, match=r"one per test example, got 3 .* for 40"):
        dataclasses.replace(report, labels=np.arange(3))


@pytest.mark.slow
def test_large_data_are_sampled(tmp_path):
    """Ten thousand points make no larger page than a few hundred, and labels stay with theirs."""
    small = KINDS["vectors"]()
    many = np.tile(small.test.stored, (200, 1))
    labels = np.tile(small.labels, 200)
    path = tmp_path / "report.html"
    report = dataclasses.replace(
        small, test=dataclasses.replace(small.test, stored=many), labels=labels
    )
    assert isinstance(report, ReportInputs)
    write_page(report, path, key=jax.random.key(0))
    assert path.stat().st_size < 2_000_000
    check_page(path.read_text(encoding="utf-8"))
