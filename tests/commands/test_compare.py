"""`hvax compare`: the numbers of `hvax evaluate`, side by side, on the same points."""

import csv
import re
import shutil

import jax
import numpy as np
import pytest

import hvax
from hvax.cli import main
from hvax.data.examples import subsample
from hvax.evaluation.evaluate import difference, evaluate
from runs_for_tests import SMALL, bits, digits_test, read_json, untrained

QUIET = "--num-samples 20 --points 30 --no-progress"


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def scores(folder, seed=0):
    """What `hvax evaluate` computes of a run of digits."""
    data = subsample(digits_test()[0], 30)
    key = jax.random.split(jax.random.key(seed))[0]
    return evaluate(hvax.load(f"{folder}/model"), data, key=key, num_samples=20, progress=False)


def test_a_run_and_its_baseline(ran, here):
    out = ran(f"compare run --baseline {QUIET} --seed 3 --out runs.csv --per-point points.csv")
    flow, plain = (scores(folder, 3) for folder in ("run", "run/baseline"))
    apart = difference(plain, flow)
    first, second = rows("runs.csv")
    assert (first["run"], first["model"]) == ("run", "DAIS")
    assert (second["run"], second["model"]) == ("run/baseline", "VAE")
    for row, expected in ((first, flow), (second, plain)):
        for name in ("elbo", "elbo_se", "nll", "nll_se", "kl", "ess_median"):
            assert float(row[name]) == pytest.approx(getattr(expected, name), rel=1e-12)
        assert row["num_points"] == "30" and row["trusted"] == str(expected.trusted)
    assert first["elbo_less_first"] == "" and first["nll_less_first_se"] == ""
    for name, value in apart.items():
        column = f"{name.removesuffix('_se')}_less_first{'_se' if name.endswith('_se') else ''}"
        assert float(second[column]) == pytest.approx(value, rel=1e-12)
    results = read_json("run/results.json")
    assert float(first["seconds_training"]) == results["hvae"]["seconds_training"]
    assert float(second["seconds_training"]) == results["vae"]["seconds_training"]
    lines = out.splitlines()
    assert lines[0].startswith("On 30 test points, in nats") and max(map(len, lines[:8])) <= 80
    assert f"{flow.nll:.2f} +- {flow.nll_se:.2f}" in lines[2]
    assert f"{apart['nll']:+.3f} +- {apart['nll_se']:.3f}" in lines[6]
    assert lines[5] == "Less run, point by point:"


def test_learned_numbers_are_counted(ran):
    """8 x 8 to 8 to 2 twice, 2 to 8 to 8 x 8; the flow's own beside."""
    ran(f"compare run --baseline {QUIET} --out runs.csv")
    first, second = rows("runs.csv")
    vae = 64 * 8 + 8 + 2 * (8 * 2 + 2) + 2 * 8 + 8 + 8 * 64 + 64
    assert int(second["parameters"]) == vae
    assert vae < int(first["parameters"]) < vae + 10


def test_the_points_are_those_of_the_test_part(ran):
    ran(f"compare run --baseline {QUIET} --per-point points.csv")
    found = rows("points.csv")
    assert len(found) == 60 and [row["run"] for row in found[::30]] == ["run", "run/baseline"]
    places = np.linspace(0, 179, 30).round().astype(int)
    assert [int(row["point"]) for row in found[:30]] == places.tolist()
    points = scores("run").per_point
    for name in ("elbo", "log_p", "ess", "k_hat"):
        column = [float(row[name]) for row in found[:30]]
        np.testing.assert_allclose(column, getattr(points, name), rtol=1e-12)


def test_the_numbers_are_those_of_evaluate(ran, here):
    """In float64 too, beside a run in float32."""
    np.save("bits.npy", bits(80))
    for name, more in (("one", ""), ("two", "--x64")):
        untrained(f"bits.npy --likelihood bernoulli --seed 1 {more} {SMALL}", folder=here / name)
    ran(f"compare one two {QUIET} --out both.csv")
    for row in rows("both.csv"):
        ran(f"evaluate {row['run']} {QUIET}")
        alone = read_json(f"{row['run']}/evaluation.json")
        assert float(row["nll"]) == alone["nll"] and float(row["elbo"]) == alone["elbo"]
        assert row["seconds_training"] == ""  # it was not trained
    assert "  -\n" in ran(f"compare one two {QUIET}")


def test_other_data(ran, here):
    np.save("new.npy", bits(25))
    out = ran(f"compare run --baseline --data new.npy {QUIET} --out runs.csv")
    assert out.startswith("On 25 points of new.npy, in nats")
    data = np.load("new.npy")
    key = jax.random.split(jax.random.key(0))[0]
    alone = evaluate(hvax.load("run/model"), data, key=key, num_samples=20, progress=False)
    assert float(rows("runs.csv")[0]["nll"]) == pytest.approx(alone.nll, rel=1e-6)


def test_a_run_is_scored_once_however_it_is_named(ran):
    ran(f"compare run run/baseline ./run --baseline {QUIET} --out runs.csv")
    assert [row["run"] for row in rows("runs.csv")] == ["run", "run/baseline"]


def test_numbers_not_to_be_trusted_are_told(here, capsys):
    """Five draws are never ten effective ones. The advice is for one run; --strict counts it."""
    few = "compare run --baseline --num-samples 5 --points 10 --no-progress"
    assert main(f"{few} --strict".split()) == 1
    out, err = capsys.readouterr()
    assert err == "" and len(re.findall("WARNING untrusted-nll: run", out)) == 1
    assert "The NLL is not to be trusted either of: run" in out
    assert main(few.split()) == 0


def test_densities_beside_probabilities_are_told(ran, here):
    np.save("whole.npy", np.random.default_rng(0).integers(0, 9, (60, 4)))
    untrained(f"whole.npy --likelihood poisson {SMALL}", folder=here / "one")
    untrained(f"whole.npy --likelihood gaussian {SMALL}", folder=here / "two")
    out = ran(f"compare one two {QUIET}")
    assert "note: densities and probabilities are compared (gaussian, poisson)" in out


def prepared(here):
    """Runs of other data, splits and shapes, and a damaged one."""
    np.save("bits.npy", bits(60))
    np.save("vectors.npy", np.random.default_rng(0).normal(size=(60, 4)))
    untrained(f"bits.npy --likelihood bernoulli {SMALL}", folder=here / "one")
    untrained(f"bits.npy --likelihood bernoulli --split-seed 7 {SMALL}", folder=here / "split")
    untrained(f"vectors.npy {SMALL}", folder=here / "vectors")
    shutil.copytree(here / "one", here / "damaged")
    (here / "damaged" / "config.json").write_text("{}")
    for name in ("there.csv", "run/there.csv"):
        (here / name).write_text("not to be lost")


BAD = [
    ("compare", "two runs or more, got 0; --baseline adds"),
    ("compare run", "two runs or more, got 1"),
    ("compare run ./run", "two runs or more, got 1"),
    ("compare one --baseline", "two runs or more, got 1"),
    ("compare run none", "none is no run directory"),
    ("compare one damaged", "damaged/config.json is damaged"),
    ("compare one split", "split is scored on other data points than one: --split-seed is 7 there, "
     "0 here. Compare runs of the same data and split"),
    ("compare run one", "one is scored on .* than run: source is .*bits.npy there, digits here"),
    ("compare one vectors", "--likelihood is gaussian there, bernoulli here"),
    ("compare run one --data vectors.npy", r"trained on examples of shape \(8, 8\)"),
    ("compare run one --num-samples 0", "--num-samples must be >= 1"),
    ("compare run one --points 0", "--points must be >= 1"),
    ("compare run one --seed -1", "--seed must be in"),
    ("compare run one --array a", "--array is for other data"),
    ("compare run --baseline --out there.csv", "there.csv is there already; .* use --overwrite"),
    ("compare run --baseline --per-point there.csv", "there.csv is there already"),
    ("compare run --baseline --out new.txt", "must end in .csv, got new.txt"),
    ("compare run --baseline --out none/new.csv", "the folder none does not exist"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_told_before_any_work(arguments, message, here, refused):
    prepared(here)
    refused(arguments, message)


def copies(here, x, other):
    """Two runs on two files."""
    for name, numbers in (("one", x), ("copy", other)):
        np.save(f"{name}.npy", numbers)
        untrained(f"{name}.npy --likelihood bernoulli {SMALL}", folder=here / name)


def test_a_copy_of_a_file_is_the_same_data(here, ran):
    """Seen to fail where paths were compared."""
    copies(here, bits(60), bits(60))
    ran(f"compare one copy {QUIET}")


def test_a_changed_copy_of_a_file_is_not(here, refused):
    copies(here, bits(60), 1 - bits(60))
    refused("compare one copy", "source is .*copy.npy there, .*one.npy here")


def test_overwrite_replaces_its_files(ran, here):
    for name in ("runs.csv", "points.csv"):
        (here / name).write_text("old")
    ran(f"compare run --baseline {QUIET} --out runs.csv --per-point points.csv --overwrite")
    assert len(rows("runs.csv")) == 2 and len(rows("points.csv")) == 60
