"""`hvax report`: a page of the run's numbers, or a line on what is wrong with them."""

import json
import shutil

import numpy as np
import pytest

import hvax
from hvax.storage.logs import read_log
from reports_for_tests import check_page
from runs_for_tests import cut, digits_test, read_json, remove, write


@pytest.fixture
def reports(monkeypatch):
    """What pages would be made of."""
    seen = []

    def spy(report, path, *, key):
        seen.append(report)
        path.write_text(report.title)

    monkeypatch.setattr("hvax.commands.report.write_page", spy)
    return seen


def test_report_of_a_run_and_of_its_baseline_as_trained(ran, reports, here):
    assert ran("report run") == "report: run/report.html\n"
    assert ran("report run/baseline") == "report: run/baseline/report.html\n"
    assert (here / "run" / "baseline" / "report.html").read_text() == "baseline"
    results = read_json("run/results.json")
    (own, plain), test = reports, digits_test()
    assert (own.title, type(own.model), type(plain.model)) == ("run", hvax.HVAE, hvax.VAE)
    assert own.evaluation == results["hvae"] and own.difference == results["difference"]
    assert own.baseline == plain.evaluation == results["vae"]
    assert plain.baseline is plain.difference is None
    assert own.history == read_log(here / "run" / "metrics.jsonl") != own.baseline_history
    assert plain.history == own.baseline_history and len(plain.history) == 1
    assert own.options["source"] == "digits"
    np.testing.assert_array_equal(own.test[:], test[0][:])
    np.testing.assert_array_equal(own.labels, test[1])


def test_report_after_an_evaluation_of_the_baseline(ran, reports, here):
    results = read_json("run/results.json")
    (here / "run" / "baseline" / "evaluation.json").write_text(json.dumps({"nll": 1.5}))
    ran("report run")
    (report,) = reports
    assert report.evaluation == results["hvae"]
    assert report.baseline == results["vae"] | {"nll": 1.5}
    assert report.difference is None  # that was of the numbers of the training's end


def test_report_shows_the_last_evaluation(ran, here):
    record = read_json("run/results.json")["hvae"]
    row = {"lower": -87.125, "upper": None, "acceptance": 0.5, "points": 2}
    record |= {"nll": 43.21, "num_points": 123, "ais": {"real data, from prior": row}}
    (here / "run" / "evaluation.json").write_text(json.dumps(record))
    (here / "run" / "report.html").write_text("an old one")
    ran("report run --overwrite")
    text = (here / "run" / "report.html").read_text(encoding="utf-8")
    page = check_page(text)
    assert {"numbers", "training", "flow"} <= {section["id"] for section in page.all("section")}
    assert "43.21 ±" in text and "123 test" in text
    assert f"{record['elbo']:.2f} ± {record['elbo_se']:.2f}".replace("-", "−") in text
    assert "annealed importance sampling, real data, from prior lower" in text
    assert "−87.1250" in text


def changed(path, change):
    record = read_json(path)
    change(record)
    path.write_text(json.dumps(record))


def test_references_and_names_of_a_run_are_shown(ran, reports, here):
    """Rows without a latent are references, whatever else stands in them; names come from
    config.json, for data that have so many features alone."""
    rows = {"independent": {"nll": 50.5, "nll_se": 1.0}, "gaussian": {"nll": 40.0},
            "mixture of experts": {"nll": 39.0}, "lost": {"nll": None}}  # fmt: skip
    changed(here / "run" / "results.json", lambda record: record.update(rows))
    names = [f"pixel {i}" for i in range(64)]
    changed(
        here / "run" / "config.json",
        lambda record: record["data"].update(feature_names=names, notes=["a note"]),
    )
    ran("report run")
    ran("report run/baseline")
    for report in reports:
        assert report.references == {
            "independent features": 50.5, "full-covariance Gaussian": 40.0,
            "mixture of experts": 39.0,
        }  # fmt: skip
        assert report.feature_names == names and report.data["notes"] == ["a note"]
        assert report.failed is None
    changed(here / "run" / "config.json", lambda record: record["data"].update(feature_names=["a"]))
    ran("report run --overwrite")
    assert reports[-1].feature_names is None


def test_a_run_whose_flow_failed_is_reported_by_its_plain_vae(ran, reports, here):
    failed = {"model": "hvae", "why": "no finite update"}

    def fail(record):
        del record["hvae"], record["difference"]
        record["failed"] = failed

    changed(here / "run" / "results.json", fail)
    shutil.rmtree(here / "run" / "model")
    assert ran("report run") == "report: run/report.html\n"
    (report,) = reports
    assert type(report.model) is hvax.VAE and report.baseline is None
    assert report.failed.endswith("plain VAE is shown alone. no finite update")
    assert report.evaluation == read_json("run/results.json")["vae"]


def test_a_flow_that_was_switched_off_is_told(ran, reports, here):
    changed(
        here / "run" / "results.json", lambda record: record["hvae"].update(ended="flow failed")
    )
    ran("report run")
    assert "switched off" in reports[0].failed


DAMAGED_NUMBERS = [
    (cut("results.json"), "results.json is damaged: .* line"),
    (write("results.json", b"[]"), "results.json is damaged: it holds no JSON object"),
    (write("results.json", b'{"hvae": 5}'), "results.json is damaged: the row 'hvae'"),
    (write("results.json", b'{"hvae": {"nll": 1.0}}'), "numbers of run are not complete"),
    (write("results.json", b"{}"), "not complete .*: use `hvax evaluate run` first"),
    (remove("results.json"), "not complete .*: use `hvax evaluate run` first"),
    (write("evaluation.json", b'{"nll": '), "evaluation.json is damaged: .* line"),
    (write("metrics.jsonl", b'{"epoch": \n{"epoch": 2}\n'), "metrics.jsonl is damaged in line 1"),
    (write("metrics.jsonl", b'[]\n{"epoch": 2}\n'), "metrics.jsonl is damaged in line 1"),
    (write("metrics.jsonl", b'\xff\n{"epoch": 2}\n'), "metrics.jsonl is damaged in line 1"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGED_NUMBERS)
def test_damaged_numbers_are_told_by_report(damage, message, here, refused):
    damage(here / "run")
    refused("report run", message)


def test_every_number_that_is_missing_is_told(here, refused):
    results = read_json(here / "run" / "results.json")
    for model, folder in (("hvae", "run"), ("vae", "run/baseline")):
        for name in ("nll", "elbo_se", "bounds", "beta", "latent_size", "non_finite"):
            rows = {**results, model: {k: v for k, v in results[model].items() if k != name}}
            (here / "run" / "results.json").write_text(json.dumps(rows))
            refused("report run", rf"{folder} are not complete \({name} is missing\)")
