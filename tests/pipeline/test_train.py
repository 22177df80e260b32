"""`hvax.train`: one call gives what the program gives, bit for bit."""

import json

import jax
import numpy as np
import pytest
from jaxtyping import TypeCheckError

import hvax
from hvax.cli import main
from hvax.pipeline.reading import source_of
from hvax.storage.structure import digest
from models_for_tests import in_bits

SMALL = {"hidden": (4,), "latent_size": 2, "epochs": 4, "batch_size": 8, "num_samples": 5}
X = np.random.default_rng(0).normal(size=(60, 3)).round(3)
FLOW = hvax.HamiltonianFlow.uha(1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    header = "a,b,c"
    np.savetxt("x.csv", X, delimiter=",", fmt="%.3f", header=header, comments="")
    return tmp_path


def train(data="x.csv", **options):
    return hvax.train(data, **({"progress": False} | SMALL | options))


def program(arguments=""):
    words = "--hidden 4 --latent-size 2 --epochs 4 --batch-size 8 --num-samples 5"
    return main(f"train x.csv {words} --no-progress --no-report {arguments}".split())


def test_the_program_gives_the_same_bits(here, capsys):
    """Of weights and scores, and the same table; the library keeps no folder."""
    assert program("--run-dir run --seed 3") == 0
    printed = capsys.readouterr().out
    with pytest.warns(hvax.exceptions.HvaxWarning):  # five draws are too few
        trained = train(seed=3)
    results = json.loads((here / "run" / "results.json").read_text())
    assert [p.name for p in here.iterdir() if p.name != "x.csv"] == ["run"]
    for name, scored in trained.results.items():
        assert digest(scored.model) == results[name]["weights"]
        assert scored.scores.nll == results[name]["nll"]
        assert len(scored.fit.history) == results[name]["epochs"] == 4
    assert trained.references == {n: results[n] for n in ("independent", "gaussian")}
    assert trained.difference == results["difference"]
    assert list(trained.record()) == list(results)
    assert "DAIS - VAE" in printed and str(trained).splitlines()[0] in printed
    assert "hvax evaluate" in printed and "hvax evaluate" not in str(trained)


@pytest.mark.filterwarnings("ignore::hvax.exceptions.HvaxWarning")
def test_what_it_gives(here):
    trained = train(baseline=True)
    assert isinstance(trained.model, hvax.HVAE) and isinstance(trained.baseline.model, hvax.VAE)
    assert trained.fitted.history[-1]["epoch"] == 4 and trained.scores.num_points == 6
    assert (trained.parts.name, len(trained.parts.test)) == ("x.csv", 6)
    assert (trained.name, trained.failed, trained.unfinished) == ("hvae", None, None)
    encoding = hvax.encode(trained.model, trained.parts.test, key=jax.random.key(0), progress=False)
    assert encoding.mean.shape == (6, 2)


@pytest.mark.filterwarnings("ignore::hvax.exceptions.HvaxWarning")
def test_arrays_and_parts_are_taken_as_files_are(here):
    """A file of the same numbers has the same weights, with or without a flow of one's own."""
    expected = in_bits(train(flow=None).model)
    source = source_of(np.loadtxt("x.csv", delimiter=",", skiprows=1))
    for data in (X, source, hvax.load_parts("x.csv"), hvax.load_parts(X)):
        trained = train(data, flow=None)
        assert in_bits(trained.model) == expected
        assert trained.baseline is trained.difference is None and trained.name == "vae"
    alone = train(X, flow=FLOW, baseline=False)
    assert list(alone.results) == ["hvae"] and alone.model.flow.num_steps == 1


@pytest.mark.filterwarnings("ignore::hvax.exceptions.HvaxWarning")
def test_resume_ends_in_the_same_bits(here):
    whole = train(flow=FLOW)
    train(flow=FLOW, run_dir="run")
    with pytest.raises(ValueError, match="holds a run"):
        train(flow=FLOW, run_dir="run")
    again = train(flow=FLOW, run_dir="run", resume=True)
    assert in_bits(again.model) == in_bits(whole.model)
    assert in_bits(hvax.load("run/baseline/model")) == in_bits(whole.baseline.model)
    started = train(warm_start=whole.model, flow=FLOW, baseline=False, epochs=1)
    assert started.settings.flow_from_epoch == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flow": "nuts"}, "flow must be one of hvae"),
        ({"resume": True}, "`resume` needs the `run_dir`"),
        ({"epochs": 0}, "epochs must be >= 1"),
        ({"flow_from_epoch": 5}, "flow_from_epoch must be at most epochs, 4, got 5"),
        ({"num_samples": 0}, "num_samples must be >= 1"),
        ({"batch_size": 49}, "at most the number of examples, 48"),
        ({"network": "conv"}, "use network='mlp'"),
        ({"data": np.ones((5, 0))}, "data"),
        ({"data": "nowhere.csv"}, r"nowhere\.csv"),
        ({"warm_start": hvax.VAE(*hvax.mlp((3,), 2, hidden=(5,), key=jax.random.key(0)))},
         "`warm_start` holds other networks"),
    ],
)  # fmt: skip
def test_what_is_refused_before_any_work(options, message, here, monkeypatch):
    monkeypatch.setattr("hvax.pipeline.train.fit", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises((ValueError, OSError), match=message):
        train(**options)


def test_parts_of_examples_in_memory():
    labels = np.arange(60) % 2
    parts = hvax.load_parts(X, labels=labels, fractions=(0.5, 0.25, 0.25))
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [30, 15, 15]
    np.testing.assert_array_equal(parts.test_labels, labels[parts.test_rows])
    with pytest.raises(ValueError, match="`labels` must be one for each of 60"):
        hvax.load_parts(X, labels=labels[:5])
    with pytest.raises(ValueError, match="`columns` must be given only with a file"):
        hvax.load_parts(X, columns=("a",))
    # The suite's type checker may be the first to refuse.
    with pytest.raises((ValueError, TypeCheckError), match="bernoulli"):
        hvax.load_parts(X, likelihood="normal")
