"""`hvax report`: a page of the run's numbers, or a line on what is wrong with them."""

import json

import numpy as np
import pytest

import hvax
from hvax.commands.directory import read_metrics
from reports_for_tests import check_page
from runs_for_tests import cut, digits_test, read_json, remove, write


@pytest.fixture
def reports(monkeypatch):
    """What pages would be made of."""
    seen = []

    def spy(report, path, *, key):
        seen.append(report)
        path.write_text(report.title)

    monkeypatch.setattr("hvax.commands.report.write_report", spy)
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
    assert own.history == read_metrics(here / "run" / "metrics.jsonl") != own.baseline_history
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
