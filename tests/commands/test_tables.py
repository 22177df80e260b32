"""`hvax train` on tables as people have them: what it takes, what it says, what it never loses."""

import json
import re
import shlex

import numpy as np
import pytest

import hvax
from hvax.cli import main
from hvax.models.transform import Transform

QUICK = "--hidden 8 --num-samples 20 --num-steps 1 --no-progress --no-report --run-dir run"
DROP = f"--missing drop {QUICK}"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ran(here, capsys):
    """Runs the program; its exit code and what it printed to both streams."""

    def run(arguments: str) -> tuple[int, str, str]:
        code = main(shlex.split(arguments))
        return code, *capsys.readouterr()

    return run


def table(n=80, seed=0):
    """A people's table: a row number, text, missing cells, a constant, odd units, heavy tails."""
    draw = np.random.default_rng(seed)
    size = draw.normal(size=n)
    lines = [",site,mass (g),span,year,yield,class"]
    for i in range(n):
        span = "NA" if i in (3, 40) else f"{2e9 + 3e8 * (size[i] + draw.normal()):.6g}"
        crop = np.exp(2 * size[i] + draw.normal())
        lines.append(f"{i},north,{1e-9 * (size[i] + 5):.6g},{span},2020,{crop:.6g},{'ab'[i % 2]}")
    return "\n".join(lines) + "\n"


def write(here, name="table.csv", **options):
    (here / name).write_text(table(**options))


def options(here):
    return json.loads((here / "run" / "config.json").read_text())


def results(here):
    return json.loads((here / "run" / "results.json").read_text())


def test_a_table_trains_at_the_first_try(here, ran):
    write(here)
    code, out, err = ran(
        f"train table.csv --labels class --epochs 150 --batch-size 8 --missing drop {QUICK}"
    )
    assert code == 0 and "skipped-update" not in err and "flow-failed" not in err
    first, second, *notes = out.splitlines()[:6]
    assert first.startswith("table.csv: 62 train, 8 validation, 8 test; 3 columns; (x - mean) / sd")
    assert "1 by log" in first and second.startswith("gaussian, learned sigma likelihood; mlp 8")
    said = [line for line in notes if line.startswith("note: ")]
    assert said == [
        "note: left out columns without numbers: site",
        "note: left out 2 of 80 rows with missing cells: span (2)",
        "note: left out columns that do not vary: year",
        "note: left out the row number: column number 0",
    ]
    found = results(here)
    for name in ("vae", "hvae"):
        assert found[name]["nll"] < found["independent"]["nll"]
    kept = options(here)
    assert kept["options"]["data"]["columns"] == ["mass (g)", "span", "yield"]
    assert kept["data"]["feature_names"] == ["mass (g)", "span", "yield"]
    assert kept["options"]["model"]["likelihood"] == "gaussian"
    transform = hvax.load("run/model").vae.decoder.likelihood.transform
    assert isinstance(transform, Transform) and transform.kinds[2] == "log"


def test_samples_and_reconstructions_have_the_tables_units(here, ran):
    write(here)
    assert ran(f"train table.csv --labels class --epochs 40 --batch-size 8 {DROP}")[0] == 0
    assert ran("sample run -n 300 --out new.npy")[0] == 0
    made = np.load("new.npy")
    assert 3e-9 < np.median(made[:, 0]) < 7e-9 and 1e9 < np.median(made[:, 1]) < 3e9
    assert made[:, 2].min() > 0  # a logarithm was modeled
    write(here, "new.csv", seed=1)
    assert ran("reconstruct run new.csv --no-progress --out back.npy")[0] == 0
    assert np.load("back.npy").shape == (78, 3)


def test_new_data_without_a_header_are_taken_by_their_order(here, ran):
    write(here)
    assert ran(f"train table.csv --labels class --epochs 2 --batch-size 8 {QUICK}")[0] == 0
    draw = np.random.default_rng(0)
    np.savetxt("bare.csv", draw.uniform(1, 2, (5, 3)) * [5e-9, 2e9, 1.0], delimiter=",")
    assert ran("encode run bare.csv --no-progress --out z.npz")[0] == 0
    np.savetxt("other.csv", np.ones((5, 2)), delimiter=",")
    code, _, err = ran("encode run other.csv --no-progress --out y.npz")
    assert code == 2 and "'mass (g)'" in err


def test_a_value_without_a_logarithm_is_refused_by_column(here, ran):
    write(here)
    assert ran(f"train table.csv --labels class --epochs 2 --batch-size 8 {QUICK}")[0] == 0
    (here / "bad.csv").write_text("mass (g),span,yield\n5e-9,2e9,1\n5e-9,2e9,-1\n")
    code, _, err = ran("evaluate run bad.csv --no-progress")
    assert code == 2 and "feature 2 must be positive" in err and "--transform none" in err


@pytest.mark.slow
def test_counts_are_known_by_their_values(here, ran):
    """Overdispersed whole numbers are counts; rounded measurements with less spread than a
    Poisson's are not."""
    draw = np.random.default_rng(0)
    np.save("genes.npy", draw.poisson(np.exp(draw.normal(size=(60, 6))) * 20))
    np.save("waists.npy", np.round(draw.normal(90, 3, (60, 6))).astype(np.int64))
    few = f"--epochs 2 --batch-size 8 --model vae --overwrite {QUICK}"
    for name, family in (("genes", "negative-binomial"), ("waists", "gaussian")):
        code, out, _ = ran(f"train {name}.npy {few}")
        assert code == 0 and f"\n{family}" in out


@pytest.mark.slow
def test_poisson_counts_of_a_hundred_train(here, ran):
    """They ended at step 9: a rate of exp(0) where 100 is right."""
    np.save("counts.npy", np.random.default_rng(0).poisson(100, (200, 10)))
    code, _, err = ran(f"train counts.npy --likelihood poisson --epochs 20 {QUICK}")
    assert code == 0 and "skipped" not in err
    found = results(here)
    assert found["hvae"]["nll"] < found["independent"]["nll"] + 1


@pytest.mark.slow
def test_a_flow_that_fails_costs_nothing_that_was_earned(here, ran):
    """At a fixed step size of 1e9 every trajectory overflows."""
    write(here)
    steep = "--step-size 1e9 --no-learn-step-size --num-steps 4 --max-skipped 2"
    small = "--hidden 8 --num-samples 20 --no-progress --run-dir run --batch-size 8"
    code, out, err = ran(
        f"train table.csv --labels class --epochs 8 --flow-from-epoch 6 {steep} {small}"
    )
    assert code == 0
    assert "hvax: WARNING flow-failed: " in err and "switched off" in out
    found = results(here)
    assert found["hvae"]["ended"] == "flow failed" and np.isfinite(found["hvae"]["nll"])
    assert (here / "run" / "report.html").is_file()
    assert hvax.load("run/model").flow.num_steps == 0
    # Every later command opens such a run.
    assert ran("evaluate run --num-samples 5 --no-progress")[0] == 0
    assert ran("sample run -n 3 --out s.npy")[0] == 0
    strict = f"train table.csv --labels class --epochs 8 --flow-from-epoch 6 {steep} {small}"
    assert ran(f"{strict} --overwrite --no-report --strict")[0] == 1


@pytest.mark.slow
def test_the_advice_to_go_on_helps(here, ran):
    """Of still-improving: the command that it names ends with a better bound."""
    draw = np.random.default_rng(0)
    z = draw.normal(size=(300, 1))
    np.save("line.npy", z @ np.ones((1, 8)) + 0.1 * draw.normal(size=(300, 8)))
    code, _, err = ran(f"train line.npy --model vae --epochs 60 {QUICK}")
    assert code == 0
    command = re.search(r"still-improving: .* Go on with: hvax (.*)$", err, re.MULTILINE)[1]
    before = results(here)["vae"]["nll"]
    code, _, _ = ran(f"{command} --no-report --no-progress")
    assert code == 0 and results(here)["vae"]["nll"] < before - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n7,7\n" * 1 + "7,7\n" * 20, "expected a column that varies, got none among a, b"),
        ("a,b\n1,2\n3,x\n5,6\n7,8\n", "line 3, column 1 (b), must be a finite number, got 'x'"),
        ("a,b\n1,NA\nNA,2\n3,4\n", "got 2 of 3 rows with missing cells"),
    ],
)
def test_what_cannot_be_trained_is_said_before(text, message, here, ran):
    (here / "bad.csv").write_text(text)
    code, _, err = ran(f"train bad.csv {DROP}")
    assert code == 2 and message in err and not (here / "run").exists()


@pytest.mark.slow
def test_columns_are_chosen_by_name_or_index(here, ran):
    write(here)
    few = f"--epochs 2 --batch-size 8 --model vae --overwrite {QUICK}"
    code, out, _ = ran(f"train table.csv --columns span yield {few}")
    assert code == 0 and "; 2 columns;" in out
    code, out, _ = ran(f"train table.csv --columns 2 5 {few}")
    assert code == 0 and options(here)["data"]["feature_names"] == ["mass (g)", "yield"]
    code, _, err = ran(f"train table.csv --columns span weight {few}")
    assert code == 2 and "must have one column 'weight'" in err


def spectra(path, first, n=60):
    draw = np.random.default_rng(1)
    x = draw.normal(size=(n, 1)) + 0.3 * draw.normal(size=(n, 6)) + 3
    lines = [",".join(f"{value:.4f}" for value in row) for row in x]
    path.write_text("\n".join(first + lines) + "\n")


@pytest.mark.slow
def test_a_header_of_numbers_is_kept_in_the_run(here, ran):
    """It was an example, and as one of 60 it spoiled means and standard deviations."""
    spectra(here / "x.csv", ["900,902,904,906,908,910"])
    few = f"--epochs 2 --batch-size 8 --model vae --overwrite {QUICK}"
    code, out, _ = ran(f"train x.csv {few}")
    assert code == 0 and "48 train, 6 validation, 6 test" in out
    assert "note: x.csv, line 1: 900, 902, 904, 906, ... names the columns" in out
    kept = options(here)
    assert kept["options"]["data"]["header"] == "yes"
    assert kept["data"]["feature_names"][0] == "900"
    # In a file of one example nothing but the names says so.
    spectra(here / "one.csv", ["900,902,904,906,908,910"], n=1)
    assert ran("encode run one.csv --no-progress --out one.npz")[0] == 0
    assert np.load("one.npz")["mean"].shape[0] == 1
    # A file without names is taken by the places of its columns.
    spectra(here / "bare.csv", [], n=5)
    assert ran("encode run bare.csv --no-progress --out bare.npz")[0] == 0
    assert np.load("bare.npz")["mean"].shape[0] == 5
    code, out, _ = ran(f"train x.csv --header no {few}")
    assert code == 0 and "49 train" in out and options(here)["options"]["data"]["header"] == "no"
    assert ran("evaluate run --num-samples 2 --no-progress")[0] == 0
    assert ran("encode run x.csv --header no --no-progress --out all.npz")[0] == 0
    assert np.load("all.npz")["mean"].shape[0] == 61
    code, _, err = ran("encode run --header no --no-progress --out no.npz")
    assert code == 2 and "--header is for other data" in err


@pytest.mark.slow
def test_as_many_features_as_classes_are_told_by_their_values(here, ran):
    """They were taken for one-hot, and refused."""
    draw = np.random.default_rng(0)
    few = f"--likelihood categorical --epochs 2 --batch-size 8 --model vae --overwrite {QUICK}"
    np.save("classes.npy", draw.integers(0, 4, (60, 4)))
    assert ran(f"train classes.npy {few}")[0] == 0
    assert hvax.load("run/model").decoder.likelihood.one_hot is False
    assert ran("reconstruct run --no-progress --out back.npy")[0] == 0
    assert np.load("back.npy").shape == (6, 4, 4)
    np.save("one.npy", np.eye(4, dtype=np.int64)[draw.integers(0, 4, 60)])
    assert ran(f"train one.npy --num-classes 4 {few}")[0] == 0
    assert np.isfinite(results(here)["vae"]["nll"])
    assert ran("reconstruct run --no-progress --out one_back.npy")[0] == 0
    assert np.load("one_back.npy").shape == (6, 4)
