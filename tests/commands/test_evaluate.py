"""`hvax evaluate`: the library's numbers, on the screen and as JSON."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import hvax
from hvax.cli import main
from hvax.data import load_source, split
from hvax.evaluation import ais
from hvax.evaluation.ais import AIS
from hvax.evaluation.table import as_json, as_table
from hvax.storage.json_files import dumps
from runs_for_tests import (
    AIS_FEW,
    FEW,
    SMALL,
    bits,
    contents,
    digits_test,
    read_json,
    untrained,
)


def test_evaluate_gives_the_numbers_of_the_library(ran):
    out = ran(f"evaluate run {FEW} --seed 3 --per-point points.npy")
    test, _ = digits_test()
    chosen = dataclasses.replace(
        test, stored=test.stored[np.linspace(0, 179, 10).round().astype(int)]
    )
    scores = hvax.evaluate(
        hvax.load("run/model"),
        chosen,
        key=jax.random.split(jax.random.key(3))[0],
        num_samples=5,
        progress=False,
    )
    assert out == as_table(scores, "run --points 10 --seed 3") + "\n"
    record = read_json("run/evaluation.json")
    assert record == {"source": "test", **json.loads(dumps(as_json(scores)))}
    for name in ("elbo", "nll"):
        assert f"{record[name]:.3f} +- {record[name + '_se']:.3f} (data)" in out
    assert f"{record['distance']:.3f} encoder sd" in out
    assert (record["num_points"], record["num_samples"]) == (10, 5)
    points = np.load("points.npy")
    np.testing.assert_array_equal(points, np.stack(scores.per_point, axis=1))
    assert points.shape == (10, 8) and points.dtype == np.float64
    # The columns as the help names them: ELBO, log p, var(w/p), ESS, k-hat, lost draws, whether
    # plain draws were scored, rounding.
    assert points[:, 0].mean() == pytest.approx(record["elbo"], abs=1e-9)
    assert points[:, 1].mean() == pytest.approx(-record["nll"], abs=1e-9)
    assert points[:, 2].mean() / 10 == pytest.approx(record["nll_bias"], abs=1e-9)
    assert np.median(points[:, 3]) == pytest.approx(record["ess_median"], abs=1e-9)
    assert record["non_finite"] == record["plain_points"] == 0 and not points[:, 5:7].any()


def test_evaluate_repeats_itself_for_a_seed(ran, here):
    seen = []
    for seed in ("0", "0", "1"):
        out = ran(f"evaluate run {FEW} --seed {seed} --per-point points.npy")
        seen.append(
            (out, *((here / n).read_bytes() for n in ("run/evaluation.json", "points.npy")))
        )
        (here / "points.npy").unlink()
    assert seen[0] == seen[1]
    assert not set(seen[0]) & set(seen[2])


def test_evaluate_takes_no_more_points_than_there_are(ran):
    ran("evaluate run --num-samples 5 --no-progress")
    record = read_json("run/evaluation.json")
    assert (record["num_points"], record["num_samples"]) == (180, 5)


def test_evaluation_of_other_data_is_not_the_runs(ran, here):
    ran(f"evaluate run {FEW}")
    before = contents(here)
    x = bits(40).astype(np.uint8)
    np.save("bits.npy", 255 * x)
    out = ran("evaluate run bits.npy --num-samples 5 --points 100 --seed 1 --no-progress")
    key = jax.random.split(jax.random.key(1))[0]
    scores = hvax.evaluate(hvax.load("run/model"), x, key=key, num_samples=5, progress=False)
    assert out == as_table(scores, "run bits.npy --points 100 --seed 1") + "\n"
    assert scores.num_points == 40
    (here / "bits.npy").unlink()
    assert contents(here) == before


def test_evaluate_with_ais(ran):
    out = ran(f"evaluate run {FEW} {AIS_FEW} --seed 1 --per-point points.npy")
    ais = read_json("run/evaluation.json")["ais"]
    points = np.load("points.npy")
    log_p = points[[0, -1], 1].mean()  # evenly spaced of those that are scored
    assert points.shape == (10, 10) and np.all(np.isnan(points[1:-1, 8:]))
    assert list(ais) == [
        f"{which} data, from {start}"
        for which in ("real", "simulated")
        for start in ("prior", "posterior")
    ]
    for name, row in ais.items():
        assert row["points"] == 2 and 0.3 < row["acceptance"] < 1
        shown = f">= {row['lower']:.3f}"
        if name.startswith("real"):
            column = 8 + ["from prior", "from posterior"].index(name.split(", ")[1])
            assert points[[0, -1], column].mean() == pytest.approx(row["lower"], abs=1e-9)
            assert row["upper"] is None and abs(row["lower"] - log_p) < 1
        else:
            assert abs(row["upper"] - row["lower"]) < 1
            shown = f"{row['lower']:.3f} to {row['upper']:.3f}, gap"
        assert re.search(f"^{name} +{shown}", out, re.MULTILINE)
    assert "AIS: 2 points, 2 chains, 50 temperatures, 1 leapfrog steps" in out
    starts = [ais[f"simulated data, from {start}"]["lower"] for start in ("prior", "posterior")]
    assert abs(starts[0] - starts[1]) < 1  # the same data from both


def test_ais_of_some_points_sees_classes_as_the_run_does(ran, monkeypatch):
    """Simulated draws are one-hot; the run's network takes integers."""
    classes = np.random.default_rng(0).integers(0, 3, (40, 8, 8))
    np.save("classes.npy", classes)
    untrained(f"classes.npy --likelihood categorical {SMALL}")
    seen, keys = [], set()

    def ais(_, data, *, key, start, posterior_draws, **options):
        seen.append((data[:], start, posterior_draws is None))
        keys.add(str(jax.random.key_data(key)))
        return AIS(np.zeros(2), None, 0.5)

    monkeypatch.setattr("hvax.evaluation.sandwich.annealed_importance_sampling", ais)
    ran(f"evaluate other {FEW} {AIS_FEW}")
    real, _, made, _ = (rows for rows, _, _ in seen)
    test = split(load_source("classes.npy")).test
    np.testing.assert_array_equal(real, classes[test[[0, -1]]])
    assert made.dtype == real.dtype and made.shape == (2, 8, 8) and set(made.flat) == {0, 1, 2}
    starts = [(start, one_sided) for _, start, one_sided in seen]
    assert starts == [(start, one) for one in (True, False) for start in ("prior", "posterior")]
    assert len(keys) == 4


def test_ctrl_c_in_ais_keeps_what_was_done_before_it(ran, monkeypatch, capsys):
    ran(f"evaluate run {FEW} --seed 1 --per-point expected.npy")
    before = contents(Path("run"))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hvax.evaluation.sandwich.annealed_importance_sampling", interrupted)
    again = f"evaluate run {FEW} {AIS_FEW} --seed 1 --per-point new.npy"
    assert main(again.split()) == 130
    assert capsys.readouterr().err == "hvax: interrupted\n"
    assert contents(Path("run")) == before
    np.testing.assert_array_equal(np.load("new.npy"), np.load("expected.npy"))


LONGER = "--ais --ais-points 2 --ais-temperatures 100 --ais-chains 2 --ais-leapfrog 1"


def test_a_rough_bracket_comes_first(ran):
    out = ran(f"evaluate run {FEW} {LONGER}")
    rough, whole = re.split(r"^with 100 temperatures, in about \d+ seconds?:$", out, flags=re.M)
    assert "first with 10 temperatures, whose bounds are looser:" in rough
    for part, indent in ((rough, "  "), (whole, "")):
        for which in ("real", "simulated"):
            for start in ("prior", "posterior"):
                assert re.search(f"^{indent}{which} data, from {start} ", part, re.M)
    assert "hvax evaluate" not in out.split("AIS:")[0] or "--num-samples" in out


def test_ais_goes_on_after_a_kill(ran, monkeypatch):
    """Killed in the third of four runs: the first two are not done again, and the record is that
    of a run that nobody killed. Seen to fail where nothing was kept."""
    whole = f"evaluate run {FEW} {LONGER} --seed 1"
    ran(whole)
    expected = read_json("run/evaluation.json")
    shutil.rmtree("run/ais")
    batch, begun = ais._batch, []

    def stopping(plan, x, indices, bar):
        begun.append(len(plan.b))
        if begun.count(101) == 3:
            raise KeyboardInterrupt
        return batch(plan, x, indices, bar)

    with monkeypatch.context() as patch:
        patch.setattr(ais, "_batch", stopping)
        assert main(whole.split()) == 130
        assert len(list(Path("run/ais").iterdir())) == 2
    with monkeypatch.context() as patch:
        begun.clear()
        patch.setattr(ais, "_batch", lambda *a: (begun.append(len(a[0].b)), batch(*a))[1])
        main(whole.split())
        assert begun.count(101) == 2
    assert read_json("run/evaluation.json") == expected


def test_the_advice_of_the_program_can_be_followed(ran):
    """The command that untrusted-nll names is one, and its estimate is trusted. The second, from
    500 samples, is the same words."""
    out = ran(f"evaluate run {FEW}")
    command = out.splitlines()[-1].strip()
    assert command == "hvax evaluate run --points 10 --num-samples 500"
    assert not read_json("run/evaluation.json")["trusted"]
    again = ran(command.removeprefix("hvax ") + " --no-progress")
    assert "WARNING" not in again and read_json("run/evaluation.json")["trusted"]


def test_ais_without_simulated_data_where_the_model_draws_none(ran, monkeypatch, capsys):
    """A decoder whose draws are no data of its likelihood: said, and the real data are annealed."""

    def simulate(model, num_points, latent_size, *, key):
        return np.full((num_points, 8, 8), np.nan, np.float32), np.zeros((num_points, latent_size))

    monkeypatch.setattr("hvax.evaluation.sandwich.simulate", simulate)
    out = ran(f"evaluate run {FEW} {AIS_FEW}")
    assert "no AIS on simulated data, since what the model draws are no data" in out
    assert len(read_json("run/evaluation.json")["ais"]) == 2
