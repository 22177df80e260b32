"""Tables with holes, from the file to scores, imputed values, a page and a notebook's cell."""

import jax
import numpy as np
import pandas
import pytest

import hvax
from hvax.cli import main
from hvax.models.inputs import MaskedInput
from models_for_tests import in_bits

SMALL = {"hidden": (8,), "latent_size": 2, "epochs": 4, "batch_size": 8, "num_samples": 5}
GENERATOR = np.random.default_rng(0)
FULL = GENERATOR.normal(size=(80, 2)) @ GENERATOR.normal(size=(2, 4)) * 30 + 200
HOLES = GENERATOR.uniform(size=FULL.shape) < 0.2
X = np.where(HOLES, np.nan, FULL).round(2)

pytestmark = pytest.mark.filterwarnings("ignore::hvax.exceptions.HvaxWarning")


def write_table(path, x):
    lines = [",".join("" if np.isnan(v) else f"{v:.2f}" for v in row) for row in x]
    path.write_text("a,b,c,d\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def trained():
    return hvax.train(pandas.DataFrame(X, columns=list("abcd")), progress=False, **SMALL)


def test_every_row_is_used_and_named_missing(trained):
    assert isinstance(trained.model.encoder.network, MaskedInput)
    assert len(trained.parts.train) + len(trained.parts.validation) + len(trained.parts.test) == 80
    assert np.isfinite(trained.scores.nll)
    assert set(trained.references) == {"independent"}  # a full Gaussian takes no holes


def test_the_program_trains_the_same_bits(trained, tmp_path, capsys):
    path = write_table(tmp_path / "x.csv", X)
    words = "--hidden 8 --latent-size 2 --epochs 4 --batch-size 8 --num-samples 5 --no-progress"
    assert main(f"train {path} --run-dir {tmp_path / 'run'} {words}".split()) == 0
    rows = int(HOLES.any(axis=1).sum())
    assert f"{rows} of 80 rows with missing cells, which are modeled" in capsys.readouterr().out
    assert in_bits(hvax.load(tmp_path / "run" / "model")) == in_bits(trained.model)
    assert (tmp_path / "run" / "report.html").is_file()
    # Another file of the same columns, with other holes.
    other = write_table(tmp_path / "y.csv", np.where(FULL > 220, np.nan, FULL))
    run, out = tmp_path / "run", tmp_path / "z.npz"
    assert main(f"evaluate {run} {other} --num-samples 5 --no-progress".split()) == 0
    assert main(f"encode {run} {other} --out {out} --no-progress".split()) == 0
    assert np.load(out)["mean"].shape == (80, 2)


def test_rows_with_holes_are_dropped_if_asked(tmp_path):
    few = HOLES & (np.arange(80) % 3 == 0)[:, None]
    path = write_table(tmp_path / "x.csv", np.where(few, np.nan, FULL))
    parts = hvax.load_parts(path, missing="drop")
    kept = int((~few.any(axis=1)).sum())
    assert len(parts.train) + len(parts.validation) + len(parts.test) == kept
    assert not parts.train.holes
    many = np.where(GENERATOR.uniform(size=X.shape) < 0.4, np.nan, X)
    path = write_table(tmp_path / "many.csv", many)
    with pytest.raises(ValueError, match=r"rows with missing cells.*--missing keep"):
        hvax.load_parts(path, missing="drop")
    assert len(hvax.load_parts(path).train) > 0


def test_what_training_gives_can_be_used_at_once(trained, tmp_path):
    full = trained.impute(X)
    assert np.array_equal(full.mean[~HOLES], X[~HOLES]) and np.all(np.isfinite(full.mean))
    assert trained.encode(X).mean.shape == (80, 2) and trained.sample(3).shape == (3, 4)
    assert trained.reconstruct(X[:5]).shape == (5, 4)
    assert np.isfinite(trained.score(X[:20]).nll)
    assert list(trained.history.columns[:2]) == ["epoch", "step"] and len(trained.history) == 4
    trained.save(tmp_path / "model")
    assert in_bits(hvax.load(tmp_path / "model")) == in_bits(trained.model)
    trained.report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "DAIS" in page and "nan" not in page.lower().replace("dominan", "")


def test_a_notebook_shows_scores_curves_and_samples(trained):
    html = trained._repr_html_()
    assert "independent" in html and html.count("<img") == 2
    assert str(trained).splitlines()[0] in html


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.impute(X, num_draws=5).interval(0.9), r"with 5 draws, at most 0\.6667"),
        (lambda t: t.impute(X, num_draws=50, num_samples=20), "num_samples must be >= num_draws"),
        (lambda t: t.impute(X[:, :3]), "must have shape|does not suit"),
        (lambda t: t.impute(np.where(HOLES, np.inf, X)), r"finite, got inf.*NaN where they are mi"),
        (
            lambda t: hvax.fit(t.model, np.where(np.arange(4) == 2, np.nan, X), epochs=1),
            "observed in some example, got only missing values of feature 2",
        ),
    ],
)
def test_bad_input_is_refused_in_words(trained, call, message):
    with pytest.raises(ValueError, match=message):
        call(trained)


def test_rows_without_any_value_are_allowed(trained):
    """Their bound is near 0: log p of nothing is 0, and q is not quite the prior."""
    x = np.vstack([X[:3], np.full((1, 4), np.nan)])
    scores = trained.score(x, num_samples=2000)
    assert abs(scores.per_point.log_p[3]) < 0.2
    assert np.all(np.isfinite(trained.impute(x).mean[3]))


def test_a_complete_table_leaves_nothing_to_impute(trained):
    found = trained.impute(FULL)
    assert np.array_equal(found.mean, FULL) and found.draws_of_missing.shape == (100, 0)
    assert np.all(np.isnan(found.ess))


def test_imputed_counts_and_classes_are_of_their_kind():
    """Draws of counts are whole; of integer classes, classes, and the best guess is one too."""
    x = np.random.default_rng(1).integers(0, 3, (40, 5))
    mask = np.random.default_rng(2).uniform(size=x.shape) < 0.7
    likelihood = hvax.Categorical(3, one_hot=False)
    networks = hvax.mlp(
        (5,), 2, hidden=(8,), likelihood=likelihood, missing_values=True, key=jax.random.key(0)
    )
    found = hvax.impute(hvax.VAE(*networks), hvax.Batch(x, mask=mask), progress=False)
    assert set(np.unique(found.draws)) == set(np.unique(found.mean)) | {0, 1, 2} == {0, 1, 2}
    networks = hvax.mlp(
        (5,), 2, hidden=(8,), likelihood=hvax.Poisson(), missing_values=True, key=jax.random.key(0)
    )
    found = hvax.impute(hvax.VAE(*networks), np.where(mask, x, np.nan), progress=False)
    drawn = found.draws_of_missing
    assert np.array_equal(drawn, np.rint(drawn)) and drawn.min() >= 0
