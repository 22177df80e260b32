"""Run directories as every command opens them: whole, half-written, damaged, of another version."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import hvax
from hvax.evaluation.latent import encode
from runs_for_tests import (
    COMMANDS,
    MISSING,
    contents,
    cut,
    digits_test,
    edit,
    load_npz,
    read_json,
    remove,
    write,
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("inside", [False, True])
def test_every_command_takes_the_baseline(command, inside, ran, here, monkeypatch):
    if command == "report":
        monkeypatch.setattr(
            "hvax.commands.report.write_page",
            lambda report, path, key: path.write_text(type(report.model).__name__),
        )
    if inside:
        monkeypatch.chdir("run/baseline")
    before = set(contents(here))
    ran(COMMANDS[command].format("." if inside else "run/baseline"))
    (new,) = Path().glob("new.*")
    written = {str(new.absolute())}
    baseline = here / "run" / "baseline"
    if command == "evaluate":
        written.add(str(baseline / "evaluation.json"))
        assert read_json(baseline / "evaluation.json")["beta"] is None
    if command == "report":
        assert new.read_text() == "VAE"
    if command == "encode":
        data, _ = digits_test()
        vae = hvax.load(baseline / "model")
        expected = encode(vae, data, key=jax.random.key(0), progress=False)
        np.testing.assert_array_equal(load_npz(str(new))["z"], expected.z[:, 0])
    assert set(contents(here)) == before | written


DAMAGED_RUNS = [
    (shutil.rmtree, "run is no run directory: it has no config.json. `hvax train` makes one"),
    (lambda run: (shutil.rmtree(run), run.write_text("")), "run is no run directory"),
    (lambda run: (shutil.rmtree(run), run.mkdir()), "run is no run directory"),
    (cut("config.json"), "config.json is damaged: .* line"),
    (write("config.json", b""), "config.json is damaged: .* line 1"),
    (write("config.json", b"hello"), "config.json is damaged: .* line 1"),
    (write("config.json", b"\xff\xfe{}"), "config.json is damaged"),
    (write("config.json", b"[1]"), "config.json is damaged: it holds no JSON object"),
    (write("config.json", b"null"), "config.json is damaged: it holds no JSON object"),
    (write("config.json", b'{"model_type": "bert"}'), "not a file .* format must be 1, got None"),
    (edit(format="1"), "its format must be 1, got '1'"),
    (edit(format=0), "its format must be 1, got 0"),
    (edit(format=2), "has format 2; this version of hvax reads format 1. Install a newer hvax"),
    (edit(options=MISSING), "damaged: 'options' must be of type dict"),
    (edit(options=[]), "damaged: 'options' must be of type dict"),
    (edit(data=MISSING), "damaged: 'data' must be of type dict"),
    (edit(data__x_shape=MISSING), r"damaged: x_shape must be tuple\[int, ...\], got None"),
    (edit(data__x_shape=[8, "8"]), "damaged: x_shape must be int, got '8'"),
    (edit(options__source=MISSING), "damaged: .*source"),
    (edit(options__source=5), "damaged: options.source must be str, got 5"),
    (edit(options__nonsense=1), "options has 'nonsense', which this version of hvax does not know"),
    (edit(options__train__nonsense=1), "options.train has 'nonsense', which this version"),
    (edit(options__model=None), "options.model must be ModelOptions, got None"),
    (edit(options__model__model="gan"), "model.model must be .*'vae', 'hvae'.*, got 'gan'"),
    (edit(options__model__model="vae"), "model holds an HVAE, where config.json says vae"),
    (edit(options__model__likelihood="normal"), "likelihood must be .*'bernoulli'.*, got 'normal'"),
    (edit(options__model__latent_size="2"), "latent_size must be int, got '2'"),
    (edit(options__model__latent_size=True), "latent_size must be int, got True"),
    (edit(options__model__hidden=8), r"hidden must be tuple\[int, ...\], got 8"),
    (edit(options__data__fractions=[1.0]), r"fractions must be tuple\[float, float, float\]"),
    (edit(options__data__data_dir=None), "data_dir must be Path, got None"),
    (edit(options__train__x64="yes"), "x64 must be bool, got 'yes'"),
    (remove("model"), "run holds no model: its training has not come to an end"),
    (remove("model/structure.json"), "run holds no model: its training has not come to an end"),
    (remove("model/weights*"), "the weights file .* is missing"),
    (cut("model/weights*"), "weights.* is damaged"),
    (cut("model/structure.json"), "structure.json is damaged"),
    (write("model/structure.json", b"[]"), "structure.json is damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGED_RUNS)
def test_a_damaged_run_is_told_by_every_command(damage, message, here, refused):
    damage(here / "run")
    for command in COMMANDS.values():
        refused(command.format("run"), message)


def test_a_baseline_that_is_not_there(here, refused):
    shutil.rmtree(here / "run" / "baseline")
    refused("sample run/baseline", "run/baseline holds no model: the run has no baseline")


def test_options_of_an_older_version_may_be_missing(ran):
    """An option that a later version brings has a default, which is what the run did."""
    edit(options__flow=MISSING, options__train__baseline=MISSING)(Path("run"))
    ran("sample run")
