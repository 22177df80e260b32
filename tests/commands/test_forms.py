"""Files of numbers in a run directory that were changed by hand are told by their name."""

import json
import re
from pathlib import Path

import pytest

from hvax.cli import main
from hvax.storage.forms import check_form
from hvax.storage.logs import read_log
from runs_for_tests import FEW, contents, read_json

HUGE = "1" + "0" * 400


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"step": 1, "loss": 0.5}', "it must hold an epoch >= 1 and numbers"),
        ('{"epoch": "1"}', "an epoch >= 1"),
        ('{"epoch": 0}', "an epoch >= 1"),
        ('{"epoch": true}', "an epoch >= 1"),
        ('{"epoch": 1, "elbo": "high"}', "numbers"),
        ('{"epoch": 1, "elbo": [1.0]}', "numbers"),
        (f'{{"epoch": {HUGE}}}', "an integer of 401 digits"),
        ('{"epoch": 1, "elbo": 1e400}', "no float holds"),
        ("[1]", "it holds no JSON object"),
    ],
)
def test_a_line_of_metrics_that_no_run_has_written(line, says, tmp_path):
    """The last too, where it is whole."""
    file = tmp_path / "metrics.jsonl"
    file.write_text(f'{{"epoch": 1, "elbo": null}}\n{line}\n{{"epoch": 3}}\n')
    with pytest.raises(ValueError, match=rf"metrics\.jsonl is damaged in line 2: .*{says}"):
        read_log(file)
    file.write_text('{"epoch": 1, "elbo": null}\n{"epoch": 2, "el')
    assert read_log(file) == [{"epoch": 1, "elbo": None}]


NUMBERS = {
    "elbo": ["low", [1.0], True, {}],
    "nll_se": ["none"],
    "num_points": [None, 0, 1.5, True, "10"],
    "latent_size": [None, -1, 2.0],
    "non_finite": [None, -1],
    "trusted": [None, 1, "yes"],
    "bounds": [None, [1.0], {"one": 1.0}, {"1": "high"}, {"9" * 30: 1.0}, {"": 1.0}],
    "step_size": ["0.1", [0.1, "0.2"], [[0.1], [0.2, 0.3]], [None], []],
    "beta": [{}, [True]],
    "ended": [None, 3],
    "points_with": [[], {"failed draws": None}],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_of_another_kind(name):
    for value in NUMBERS[name]:
        for file, record in (
            ("evaluation.json", {name: value}),
            ("results.json", {"vae": {name: value}}),
        ):
            with pytest.raises(ValueError, match=rf"{name} must be .*, got "):
                check_form(file, record)


@pytest.mark.parametrize(
    "record",
    [{"vae": 3}, {"failed": 3}, {"failed": {"why": 3}}, {"difference": []},
     {"difference": {"nll": "small"}}, {"independent": {"nll": "high"}}],
)  # fmt: skip
def test_a_row_of_another_kind(record):
    with pytest.raises(ValueError, match=r"must be|holds no numbers but"):
        check_form("results.json", record)


def test_what_a_run_writes_is_of_its_form(here, capsys):
    """Of a run with a flow and a baseline, after `hvax evaluate`."""
    assert main(f"evaluate run {FEW}".split()) == 0
    capsys.readouterr()
    for name in ("results.json", "evaluation.json"):
        record = read_json(f"run/{name}")
        check_form(name, record)
        assert record


def test_the_program_names_the_file(here, capsys):
    """And says it in one line; seen to be a traceback."""
    results = read_json("run/results.json")
    Path("run/results.json").write_text(
        json.dumps(results).replace(f'"epochs": {results["vae"]["epochs"]}', f'"epochs": {HUGE}')
    )
    before = contents(here)
    assert main(["report", "run", "--out", "new.html"]) == 2
    out, err = capsys.readouterr()
    said = r"hvax: run/results.json is damaged: it holds an integer of 401 digits\.\n"
    assert out == "" and re.fullmatch(said, err), err
    assert contents(here) == before
