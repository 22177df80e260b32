"""The program with each of the flows: trained, scored, drawn, encoded, and gone on with."""

import contextlib
import io
import json

import numpy as np
import pytest
import tyro

import hvax
from hvax.cli import main
from hvax.commands.build import build_flow
from hvax.commands.directory import read_history
from hvax.config import Train
from hvax.hamiltonian.bridge import FixedBridge, LearnedBridge
from hvax.hamiltonian.integrator import PositionVerlet
from hvax.models.vae import VAE
from hvax.parameters import Fixed, Learned
from hvax.training.schedule import epochs_with_flow
from settings_for_tests import but_slow

SMALL = "--hidden 4 --latent-size 2 --num-samples 20 --test-points 6 --batch-size 4"
TRAIN = f"train bits.npy {SMALL} --num-steps 2 --epochs 2 --no-progress"


def program(arguments):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(arguments.split())
    return code, printed.getvalue()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("bits.npy", np.random.default_rng(0).integers(0, 2, (60, 5)).astype(np.uint8))
    return tmp_path


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("flow", but_slow(("uha", "dais", "ula"), keep=("dais",)))
def test_a_run_with_each_flow(flow, here):
    """It is named in the table and drawn in the report; one of them every later command opens."""
    code, printed = program(f"{TRAIN} --flow {flow} --run-dir run")
    assert code == 0 and f"\n{flow.upper()} - VAE " in printed
    trained = hvax.load("run/model").flow
    assert isinstance(trained.bridge, LearnedBridge) and trained.num_steps == 2
    assert isinstance(trained.eta, Fixed if flow == "ula" else Learned)
    assert isinstance(trained.integrator, PositionVerlet) == (flow == "dais")
    page = (here / "run" / "report.html").read_text()
    assert "bridging weights, learned" in page and "annealed transitions" in page
    assert f">{flow.upper()}<" in page
    if flow != "dais":
        return
    for command in (
        "evaluate run --num-samples 20 --ais --ais-points 2 --ais-temperatures 20 --ais-chains 2",
        "encode run --weights 3",
        "reconstruct run",
        "sample run",
    ):
        quiet = "" if command.startswith(("reconstruct", "sample")) else " --no-progress"
        assert program(command + quiet)[0] == 0
    assert np.load("embeddings.npz")["log_weight"].shape[-1] == 3


def test_the_options_of_a_flow(here):
    options = "--flow uha --bridge even --eta 0.5 --no-learn-eta --leapfrog-steps 2 --units latent"
    assert program(f"{TRAIN} {options} --schedule quadratic --no-report --run-dir run")[0] == 0
    flow = hvax.load("run/model").flow
    assert isinstance(flow.bridge, FixedBridge) and isinstance(flow.eta, Fixed)
    np.testing.assert_allclose(flow.bridge.weights(2), [1 / 3, 2 / 3], rtol=1e-6)
    assert float(flow.eta.value) == 0.5 and flow.leapfrog_steps == 2 and flow.units == "latent"
    assert float(flow.tempering.beta(2)[0]) < 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--flow hvae --num-steps 4", 0.4),
        ("--flow hvae --num-steps 8", 0.2),
        ("--flow hvae --num-steps 2 --leapfrog-steps 8", 0.1),
        ("--flow hvae --num-steps 8 --step-size 0.3", 0.3),
        ("--flow hvae --num-steps 0", 0.4),
        ("--flow uha --num-steps 8", 0.4),
    ],
)
def test_an_hvae_trajectory_starts_as_a_quarter_turn(options, expected):
    config = tyro.cli(Train, args=["digits", *options.split()], config=(tyro.conf.OmitArgPrefixes,))
    flow = build_flow(config.flow, latent_size=20)
    np.testing.assert_allclose(flow.step_sizes, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_run_from_before_there_was_a_family(here):
    """Its config.json names neither flow nor units nor a rate or a first epoch of the flow's: they
    were the Hamiltonian VAE's, the latent space's, the networks' and 1, and it goes on with them.
    """
    command = f"{TRAIN} --flow hvae --units latent --flow-rate 1 --clip 0 --no-report"
    command = f"{command} --flow-from-epoch 1 --run-dir run"
    assert program(command)[0] == 0
    file = here / "run" / "config.json"
    record = json.loads(file.read_text())
    for name in ("flow", "units", "leapfrog_steps", "bridge", "eta", "learn_eta"):
        del record["options"]["flow"][name]
    for name in ("flow_rate", "flow_from_epoch", "clip"):
        del record["options"]["train"][name]
    file.write_text(json.dumps(record))
    assert program("train bits.npy --run-dir run --resume --epochs 3")[0] == 0
    assert hvax.load("run/model").flow.units == "latent"
    options = json.loads(file.read_text())["options"]
    assert options["flow"]["units"] == "latent" and options["train"]["flow_rate"] == 1.0
    assert options["train"]["flow_from_epoch"] == 1
    assert len(rows(here / "run" / "metrics.jsonl")) == 3


@pytest.mark.slow
def test_several_draws_in_training(here):
    assert program(f"{TRAIN} --train-samples 3 --no-report --run-dir run")[0] == 0
    for folder in ("run", "run/baseline"):
        for row in rows(here / folder / "metrics.jsonl"):
            assert row["bound"] > row["elbo"] and row["validation_bound"] > row["validation_elbo"]


@pytest.mark.slow
def test_an_iwae_by_either_gradient(here):
    """Both have the same mean: after two epochs the weights are others, the bounds alike."""
    iwae = f"{TRAIN} --model vae --train-samples 5 --no-report"
    assert program(f"{iwae} --run-dir standard")[0] == 0
    assert program(f"{iwae} --estimator dreg --run-dir dreg")[0] == 0
    first, second = (
        hvax.load(f"{name}/model").encoder.trunk.layers[0].weight for name in ("standard", "dreg")
    )
    assert not np.allclose(first, second, rtol=1e-3)
    bounds = [rows(here / name / "metrics.jsonl")[-1]["bound"] for name in ("standard", "dreg")]
    np.testing.assert_allclose(*bounds, rtol=0.02)


@pytest.mark.parametrize(
    "dtype", ["uint8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("i8", "f8"))]
)
def test_bits_of_any_type_are_scored_as_bits(dtype, here):
    """Fair ones have log 2 nats each: 3.47 of five, within 0.3 after two epochs. Taken for gray
    levels of 255 those of uint8 have 4.2 and nothing to learn from."""
    bits = np.load("bits.npy").astype(dtype)
    np.save("bits.npy", np.concatenate([bits] * 4))
    assert program(f"{TRAIN} --model vae --no-report --run-dir run")[0] == 0
    row = json.loads((here / "run" / "results.json").read_text())["vae"]
    assert abs(row["nll"] - 5 * np.log(2)) < 0.3 and not row["gray"]


# Starting from a plain VAE


def test_a_warm_start_has_the_networks_of_the_run(here):
    """At a learning rate of next to nothing they stay what they were."""
    assert program(f"{TRAIN} --model vae --no-report --run-dir first")[0] == 0
    again = f"{TRAIN} --flow uha --warm-start first --learning-rate 1e-12 --no-report"
    assert program(f"{again} --run-dir run")[0] == 0
    first, vae = hvax.load("first/model"), hvax.load("run/model").vae
    weights = [model.decoder.network.network.layers[0].weight for model in (first, vae)]
    np.testing.assert_allclose(*weights, rtol=1e-6)
    assert isinstance(hvax.load("run/baseline/model"), VAE)
    options = json.loads((here / "run" / "config.json").read_text())["options"]
    assert options["train"]["warm_start"] == str(here / "first")  # for a resume from elsewhere


def test_a_warm_start_from_other_networks_is_refused(here, capfd):
    assert program(f"{TRAIN} --model vae --no-report --run-dir first")[0] == 0
    assert program(f"{TRAIN} --hidden 5 --warm-start first --run-dir run")[0] == 2
    said = capfd.readouterr().err
    assert "--warm-start first holds other networks" in said and "is (4,), here (5,)" in said
    assert not (here / "run").exists()


@pytest.mark.slow
def test_by_default_a_flow_has_the_last_quarter_of_the_epochs(here):
    """Where updates are few: of 5, 2 with it. A run that goes on for longer keeps the epoch in
    which it was turned on, and the report draws all of them."""
    assert program(f"{TRAIN} --epochs 5 --run-dir run")[0] == 0
    config = here / "run" / "config.json"

    def numbers():
        found = [len(rows(here / "run" / f / "metrics.jsonl")) for f in ("before-flow", ".")]
        return [*found, json.loads(config.read_text())["options"]["train"]["flow_from_epoch"]]

    assert numbers() == [3, 2, 4]
    history = read_history(here / "run")
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    assert history[:3] == rows(here / "run" / "before-flow" / "metrics.jsonl")
    assert program("train bits.npy --run-dir run --resume --epochs 8")[0] == 0
    assert numbers() == [3, 5, 4]
    results = json.loads((here / "run" / "results.json").read_text())
    assert results["hvae"]["epochs"] == results["vae"]["epochs"] == 8


def test_by_default_a_flow_has_a_quarter_of_the_time():
    """By what its gradients cost, from a quarter of the epochs at none; for at least 400 updates on
    smaller data, if they are not more than a quarter of the epochs."""
    for gradients in (0, 1, 4, 16):
        last = epochs_with_flow(10_000, gradients, updates=500)
        own = last * (1 + 3 * gradients / 4)
        assert abs(own / (own + 10_000 - last) - 0.25) < 1e-3
    assert [epochs_with_flow(100, 4, updates) for updates in (500, 50, 40, 20, 14)] == [
        8, 8, 10, 20, 25,
    ]  # fmt: skip
    assert [epochs_with_flow(epochs, 16, 500) for epochs in (1, 2, 40, 41)] == [1, 1, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", "--patience 1 --learning-rate 0.3"])
def test_a_baseline_goes_on_from_the_epochs_before_the_flow(more, here):
    """They are trained once; the baseline has the bits of a plain VAE's own run, one that stops
    early too, and the flow those of a run without a baseline."""
    command = f"{TRAIN} --epochs 5 --flow-from-epoch 4 --no-report {more}"
    code, printed = program(f"{command} --run-dir both")
    assert code == 0 and printed.count("\nVAE   ") + printed.count("\nDAIS  ") == 4
    assert program(f"{command} --no-baseline --run-dir flow")[0] == 0
    assert program(f"{TRAIN} --epochs 5 --model vae --no-report {more} --run-dir plain")[0] == 0
    results = {
        name: json.loads((here / name / "results.json").read_text())
        for name in ("both", "flow", "plain")
    }
    for kind, alone in (("vae", "plain"), ("hvae", "flow")):
        for value in ("weights", "elbo", "nll", "epochs", "best_epoch"):
            assert results["both"][kind][value] == results[alone][kind][value]
    history = [
        [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in rows(here / f / "metrics.jsonl")
        ]
        for f in ("both/baseline", "plain")
    ]
    assert history[0] == history[1] and len(history[0]) == results["plain"]["vae"]["epochs"]
    assert (len(history[0]) < 5) == bool(more)


def test_a_flow_that_is_turned_on_later(here):
    """The plain VAE first, in a folder of its own; the epochs are shared, and a second run, and one
    that goes on, repeat it."""
    command = f"{TRAIN} --epochs 5 --flow uha --flow-from-epoch 4 --no-report"
    assert program(f"{command} --run-dir run")[0] == 0
    assert len(rows(here / "run" / "before-flow" / "metrics.jsonl")) == 3
    assert len(rows(here / "run" / "metrics.jsonl")) == 2
    results = json.loads((here / "run" / "results.json").read_text())
    assert results["hvae"]["epochs"] == results["vae"]["epochs"] == 5
    assert isinstance(hvax.load("run/before-flow/model"), VAE)
    assert program("train bits.npy --run-dir run --resume")[0] == 0
    after = json.loads((here / "run" / "results.json").read_text())
    assert after["hvae"]["weights"] == results["hvae"]["weights"]
    assert after["hvae"]["elbo"] == results["hvae"]["elbo"]
    assert program(f"{command} --run-dir run --overwrite")[0] == 0
    again = json.loads((here / "run" / "results.json").read_text())
    assert again["hvae"]["weights"] == results["hvae"]["weights"]
