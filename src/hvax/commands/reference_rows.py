"""What a run's numbers are to be compared with: independent features, and one Gaussian."""

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from hvax.commands.build import Parts
from hvax.data.examples import Examples
from hvax.evaluation.latent import reconstruct
from hvax.evaluation.references import LARGEST, gaussian_log_prob
from hvax.models.likelihood import LearnedGaussian
from hvax.models.standardize import StandardizedLikelihood
from hvax.training.marginals import some_rows

_NAMED = 3  # columns that a warning names
_TRIED = 200  # examples that are reconstructed for it


def reference_rows(parts: Parts, test: Examples) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """The NLL of test examples under the independent-feature model of the training data and, of
    real numbers, under a Gaussian with a full covariance matrix: rows of results.json; and log p of
    each example under the first."""
    x = test[:]
    independent = parts.independent.log_prob(x)
    rows = {"independent": _row(independent)}
    if isinstance(parts.likelihood, LearnedGaussian) and test[:1].size <= LARGEST:
        units, likelihood = parts.independent.units, parts.independent.likelihood
        assert units is not None and isinstance(likelihood, StandardizedLikelihood)
        train = some_rows(parts.train)
        # A floor on t(x) is one on x to first order, about the middle of the data.
        plain = np.asarray(train, np.float64).std(0)
        floor = units.floor * np.where(plain > 0, plain, units.scale)
        rows["gaussian"] = _row(gaussian_log_prob(train, x, floor=floor))
    return rows, independent


def is_worse(log_p: NDArray[np.float64], independent: NDArray[np.float64]) -> bool:
    """Whether log p of the same examples is below that of independent features, by more than two
    standard errors of the difference."""
    with np.errstate(invalid="ignore"):  # where neither gives an example any probability
        less = independent - log_p
    if not np.all(np.isfinite(less)) or len(less) < 2:
        return not np.mean(less) <= 0
    return bool(less.mean() > 2 * less.std(ddof=1) / np.sqrt(len(less)))


def worse_features(model: Any, parts: Parts) -> str:
    """Which features a model gets wrong most, in words, and what may help."""
    x = some_rows(parts.test, _TRIED)
    made = reconstruct(model, x, key=jax.random.key(0), progress=False)
    advice = "Train longer (--epochs), or give more data."
    if made.shape != x.shape:
        return advice
    spread = np.maximum(some_rows(parts.train).astype(np.float64).var(0), 1e-300).ravel()
    error = ((made.astype(np.float64) - x) ** 2).mean(0).ravel() / spread
    worst = np.argsort(-np.nan_to_num(error, nan=np.inf))[:_NAMED]
    names = parts.feature_names or tuple(str(i) for i in range(len(error)))
    listed = ", ".join(f"{names[i]} ({error[i]:.3g})" for i in worst)
    return (
        f"Its reconstruction errors are largest, in variances of the column, in {listed}. {advice}"
    )


def _row(log_prob: Any) -> dict[str, float]:
    several = len(log_prob) > 1 and np.all(np.isfinite(log_prob))
    se = float(log_prob.std(ddof=1) / np.sqrt(len(log_prob))) if several else float("nan")
    return {"nll": float(-log_prob.mean()), "nll_se": se}
