"""Missing values filled in: hvax beside column means and scikit-learn's IterativeImputer.

    python -m experiments.imputation run        # a JSON file for each table, share and seed
    python -m experiments.imputation coverage   # how often intervals hold what a model simulated
    python -m experiments.imputation show       # the tables of docs/tables.md
    python -m experiments.imputation draw       # docs/figures/imputation.png

Values of a complete table are hidden at random; every method sees the same table with holes, and
its guesses are compared with what was hidden. hvax trains by its defaults (`hvax.train`: a tenth of
the rows validates, a tenth is not trained on) and knows nothing of the scores. The intervals of
IterativeImputer are those of 20 imputations with `sample_posterior=True`.

How far intervals go wrong by the approximation of the posterior alone is seen on data that the
trained model itself has simulated, in new rows of the table's size: there the model is the truth.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

import hvax
from experiments.common import FIGURES, RESULTS, markdown, over, write

FOLDER = RESULTS / "imputation"
SHARES = (0.1, 0.3, 0.5)
SEEDS = {"wine": (0, 1, 2), "breast_cancer": (0,)}
PROPOSALS = 2000  # draws of z for each row
DRAWS, ITERATIVE_DRAWS = 100, 20
LEVELS = (0.5, 0.8, 0.9)
SIMULATED, SIMULATED_ROWS, FLOWS = "wine", 3000, (None, "hvae", "dais")
NAMES = {None: "plain VAE", "hvae": "HVAE", "dais": "DAIS"}


def tables() -> dict[str, NDArray[np.float64]]:
    """Complete tables that come with scikit-learn: 569 x 30 and 178 x 13."""
    from sklearn.datasets import load_breast_cancer, load_wine

    return {"wine": load_wine().data, "breast_cancer": load_breast_cancer().data}


def holed(x: NDArray[np.float64], share: float, seed: int) -> NDArray[np.float64]:
    """The table with this share of its values missing, completely at random."""
    generator = np.random.default_rng(1000 * seed + round(100 * share))
    return np.where(generator.uniform(size=x.shape) < share, np.nan, x)


class Score:
    """What guesses of hidden values are worth, in units of each column's standard deviation."""

    def __init__(self, x: NDArray[np.float64], missing: NDArray[np.bool_]):
        self._x, self._missing, self._sd = x, missing, x.std(axis=0)

    def error(self, guess: NDArray[np.float64]) -> float:
        """Root mean square error."""
        scaled = ((guess - self._x) / self._sd)[self._missing]
        return float(np.sqrt(np.mean(scaled**2)))

    def intervals(
        self, interval: Callable[[float], tuple[NDArray[np.float64], NDArray[np.float64]]]
    ) -> dict[str, list[float]]:
        """Which share of hidden values intervals hold, and how wide they are, at `LEVELS`."""
        coverage, width = [], []
        for level in LEVELS:
            low, high = interval(level)
            inside = ((low <= self._x) & (self._x <= high))[self._missing]
            coverage.append(float(inside.mean()))
            width.append(float(((high - low) / self._sd)[self._missing].mean()))
        return {"coverage": coverage, "width": width}


def run_one(x: NDArray[np.float64], share: float, seed: int) -> dict[str, Any]:
    holes = holed(x, share, seed)
    score, rows = Score(x, np.isnan(holes)), {}
    means = np.where(np.isnan(holes), np.nanmean(holes, axis=0), holes)
    rows["column means"] = {"error": score.error(means)}
    rows["IterativeImputer"] = _iterative(holes, score, seed)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hvax.exceptions.HvaxWarning)
        trained = hvax.train(holes, seed=seed, progress=False)
    seconds = time.perf_counter() - began
    for name, model in (("plain VAE", trained.results["vae"].model), ("DAIS", trained.model)):
        began = time.perf_counter()
        found = hvax.impute(
            model,
            holes,
            num_draws=DRAWS,
            num_samples=PROPOSALS,
            key=jax.random.key(seed),
            progress=False,
        )
        rows[name] = {
            "error": score.error(found.mean),
            **score.intervals(found.interval),
            "seconds": time.perf_counter() - began,
            "ess": float(np.nanmedian(found.ess)),
        }
    rows["DAIS"]["seconds_training"] = seconds
    return {"share": share, "seed": seed, "rows": rows, "versions": _versions()}


def _iterative(holes: NDArray[np.float64], score: Score, seed: int) -> dict[str, Any]:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence, at its default number of rounds
        point = IterativeImputer(random_state=seed).fit_transform(holes)
        drawn = np.empty((ITERATIVE_DRAWS, *holes.shape))
        for i in range(ITERATIVE_DRAWS):
            imputer = IterativeImputer(sample_posterior=True, random_state=1000 * seed + i)
            drawn[i] = imputer.fit_transform(holes)

    def interval(level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
        return ends[0], ends[1]

    return {
        "error": score.error(point),
        **score.intervals(interval),
        "seconds": time.perf_counter() - began,
    }


def _versions() -> dict[str, str]:
    import sklearn

    return {"hvax": hvax.__version__, "jax": jax.__version__, "sklearn": sklearn.__version__}


def run() -> None:
    for name, x in tables().items():
        for share in SHARES:
            for seed in SEEDS[name]:
                path = FOLDER / f"{name}-{round(100 * share)}-{seed}.json"
                if not path.is_file():
                    write(path, run_one(x, share, seed))
                    print(path.name)


def run_coverage() -> None:
    x = tables()[SIMULATED]
    for name in FLOWS:
        path = FOLDER / f"coverage-{name or 'vae'}.json"
        if not path.is_file():
            write(path, coverage_of(name, x))
            print(path.name)


def coverage_of(flow: str | None, x: NDArray[np.float64]) -> dict[str, Any]:
    """A model of a table with holes, and what its intervals hold of rows it has simulated."""
    share = SHARES[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hvax.exceptions.HvaxWarning)
        model = hvax.train(holed(x, share, 0), flow=flow, baseline=False, progress=False).model
    new = np.asarray(hvax.sample(model, SIMULATED_ROWS, key=jax.random.key(1), progress=False))
    holes = holed(new, share, 1)
    rows = {}
    for samples in (DRAWS, 10 * DRAWS):
        found = hvax.impute(
            model,
            holes,
            num_draws=DRAWS,
            num_samples=samples,
            key=jax.random.key(2),
            progress=False,
        )
        hidden, levels = np.isnan(holes), {}
        for level in LEVELS:
            low, high = found.interval(level)
            inside = ((low <= new) & (new <= high) & hidden).sum(axis=1)
            held = inside.sum() / hidden.sum()
            # Missing values of one row share its z: the standard error is that of rows.
            residual = inside - held * hidden.sum(axis=1)
            error = np.sqrt(np.sum(residual**2)) / hidden.sum()
            levels[f"{level:.0%}"] = (float(held), float(error))
        rows[samples] = {"levels": levels, "ess": float(np.nanmedian(found.ess))}
    return {"flow": flow or "plain VAE", "share": share, "rows": rows, "versions": _versions()}


def show_coverage() -> str:
    head = (
        "model",
        "draws of z",
        *(f"{level:.0%} intervals hold" for level in LEVELS),
        "median ESS",
    )
    rows = []
    for name in FLOWS:
        found = json.loads((FOLDER / f"coverage-{name or 'vae'}.json").read_text())
        for samples, row in found["rows"].items():
            held = (f"{at:.1%} ± {error:.1%}" for at, error in row["levels"].values())
            rows.append((NAMES[name], samples, *held, f"{row['ess']:.0f}"))
    return markdown(head, rows)


def show() -> str:
    """The tables of docs/tables.md."""

    head = ("method", *(f"{share:.0%} missing" for share in SHARES), "90% intervals hold", "width")
    parts = []
    for name, x in tables().items():
        found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob(f"{name}-*.json"))]
        rows = []
        for method in found[0]["rows"]:
            of = {
                share: [each["rows"][method] for each in found if each["share"] == share]
                for share in SHARES
            }
            errors = [over([row["error"] for row in of[share]]) for share in SHARES]
            held = [row["coverage"][-1] for each in of.values() for row in each if "width" in row]
            wide = [row["width"][-1] for each in of.values() for row in each if "width" in row]
            last = (f"{np.mean(held):.1%}", f"{np.mean(wide):.2f}") if held else ("-", "-")
            rows.append((method, *errors, *last))
        parts.append(f"{name}, {len(x)} rows, {x.shape[1]} columns\n\n{markdown(head, rows)}")
    return "\n\n".join([*parts, show_coverage()])


def draw() -> None:
    """Errors against the share of missing values, and which share of values intervals hold."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colors = {"column means": "0.6", "IterativeImputer": "C1", "plain VAE": "C2", "DAIS": "C0"}
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for panel, (name, x) in zip(axes, tables().items(), strict=False):
        found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob(f"{name}-*.json"))]
        for method, color in colors.items():
            of = [[r["rows"][method]["error"] for r in found if r["share"] == s] for s in SHARES]
            panel.plot(SHARES, [np.mean(each) for each in of], "o-", color=color, label=method)
            for share, each in zip(SHARES, of, strict=True):
                panel.plot([share] * len(each), each, ".", color=color, alpha=0.4, markersize=5)
        panel.set(title=f"{name}, {len(x)} x {x.shape[1]}", xlabel="share missing", ylim=(0, None))
        panel.set_xticks(SHARES, [f"{share:.0%}" for share in SHARES])
    axes[0].set_ylabel("error of imputed values, sd")
    axes[0].legend(fontsize=8)
    held = {"plain VAE": "C2", "DAIS": "C0", "IterativeImputer": "C1"}
    for method, color in held.items():
        rows = [json.loads(path.read_text())["rows"][method] for path in FOLDER.glob("*-?0-?.json")]
        mean = np.mean([row["coverage"] for row in rows], axis=0)
        axes[2].plot(LEVELS, mean, "o-", color=color, label=method)
    axes[2].axline((0.5, 0.5), slope=1, color="0.7", linewidth=1)
    axes[2].set(title="intervals, over all of these", xlabel="should hold", ylabel="hold")
    for axis in (axes[2].xaxis, axes[2].yaxis):
        axis.set_ticks(LEVELS, [f"{level:.0%}" for level in LEVELS])
    FIGURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURES / "imputation.png", dpi=130)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = {
        "run": run,
        "coverage": run_coverage,
        "show": lambda: print(show()),
        "draw": draw,
    }
    parser.add_argument("what", choices=list(commands))
    commands[parser.parse_args().what]()
