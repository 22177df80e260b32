"""What a run's numbers are to be compared with: independent features, and one Gaussian."""

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from hvax.data.examples import Examples, subsample
from hvax.evaluation.latent import reconstruct
from hvax.evaluation.references import LARGEST, gaussian_log_prob
from hvax.models.likelihood import LearnedGaussian
from hvax.models.standardize import StandardizedLikelihood
from hvax.pipeline.parts import Parts
from hvax.training.marginals import has_holes, spaced_rows
from hvax.wording import words

_NAMED = 3  # columns that a warning names
_TRIED = 200  # examples that are reconstructed for it


def reference_rows(parts: Parts, test: Examples) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """The NLL of test examples under the independent-feature model of the training data and, of
    real numbers, under a Gaussian with a full covariance matrix: rows of results.json; and log p of
    each example under the first."""
    x = spaced_rows(test, len(test)) if test.holes else test.seen(slice(None))
    independent = parts.independent.log_prob(x)
    rows = {"independent": _row(independent)}
    real = isinstance(parts.likelihood, LearnedGaussian) and not test.holes
    if real and test[:1].size <= LARGEST:
        units, likelihood = parts.independent.units, parts.independent.likelihood
        assert units is not None and isinstance(likelihood, StandardizedLikelihood)
        train = spaced_rows(parts.train)
        # A floor on t(x) is one on x to first order, about the middle of the data.
        plain = np.asarray(train, np.float64).std(0)
        floor = units.floor * np.where(plain > 0, plain, units.scale)
        rows["gaussian"] = _row(gaussian_log_prob(train, x, floor=floor))
    return rows, independent


def is_worse(log_p: NDArray[np.float64], independent: NDArray[np.float64], features: int) -> bool:
    """Whether log p of the same examples is below that of independent features: by more than two
    standard errors of the difference, or, as a few examples may decide, by a nat a feature."""
    with np.errstate(invalid="ignore"):  # where neither gives an example any probability
        less = independent - log_p
    if not np.all(np.isfinite(less)) or len(less) < 2:
        return not np.mean(less) <= 0
    limit = min(2 * less.std(ddof=1) / np.sqrt(len(less)), features)
    return bool(less.mean() > limit)


def why_worse(
    model: Any,
    parts: Parts,
    test: Examples,
    *,
    log_p: NDArray[np.float64],
    independent: NDArray[np.float64],
    longer: str | None,
) -> str:
    """Why a model is worse than independent features, in words, and what may help.

    `log_p` and `independent` are those of the test examples; `longer` is the command that trains
    on, where the run was cut short.
    """
    numbers = parts.test_rows  # of the file; `test` may be some of them
    if test.index is not None and parts.test.index is not None:
        numbers = numbers[np.searchsorted(parts.test.index, test.index)]
    with np.errstate(invalid="ignore"):  # where neither gives an example any probability
        less = independent - log_p
    cause = cause_of_worse(
        less,
        numbers,
        trained=len(parts.train),
        standardized=parts.standardized,
        longer=longer,
    )
    return f"{_worst_features(model, parts)}{cause}"


def cause_of_worse(
    less: NDArray[np.float64],
    numbers: NDArray[np.int64],
    *,
    trained: int,
    standardized: bool,
    longer: str | None,
) -> str:
    """The likeliest cause of four, and its cure.

    `less` is what each test example lacks, in nats, and `numbers` their rows in the file;
    `trained` is the number of training rows.
    """
    worst = np.argsort(-np.nan_to_num(less, nan=np.inf))
    decide = worst[: max(1, len(less) // 20)]  # one in twenty
    others = np.setdiff1d(worst, decide)
    if longer is not None:
        return f"It may still have been improving when its epochs were over: go on with {longer}"
    if not standardized:
        how = words("with standardize=True", "without --no-standardize")
        return f"Its networks are not in the units of the data: train {how}."
    if len(others) > 0 and less[others].mean() <= 0:
        listed = ", ".join(str(numbers[i]) for i in decide[:_NAMED])
        return (
            f"{len(decide)} of the {len(less)} test rows decide (in the file, from 0, number "
            f"{listed}): over the others it is better. If they are errors, take them out of the "
            "file; if they are not, the training rows hold too few of their kind."
        )
    smaller = words("hidden=(16,), latent_size=2", "--hidden 16 --latent-size 2")
    return (
        f"{trained} training rows say too little of the test rows for a model of this size: take "
        f"a smaller one ({smaller}, say), or more rows."
    )


def _worst_features(model: Any, parts: Parts) -> str:
    """Which features are reconstructed worst, in words; nothing where they are classes."""
    test = subsample(parts.test, _TRIED)
    x = test[:]
    made = reconstruct(model, test, key=jax.random.key(0), progress=False)
    if made.shape != x.shape:
        return ""
    rows = spaced_rows(parts.train).astype(np.float64)
    spread = (np.nanvar(rows, axis=0) if has_holes(rows) else rows.var(0)).ravel()
    varies = np.flatnonzero(spread > 0)  # of a constant there is no variance to compare with
    error = np.full(spread.shape, -np.inf)
    square = (made.astype(np.float64) - x) ** 2
    known = ~np.isnan(square)
    mean = np.sum(square, axis=0, where=known) / np.maximum(1, known.sum(axis=0))
    error[varies] = mean.ravel()[varies] / spread[varies]
    worst = np.argsort(-np.nan_to_num(error, nan=np.inf, neginf=-np.inf))[:_NAMED]
    worst = worst[np.isin(worst, varies)]
    names = parts.feature_names or tuple(str(i) for i in range(len(error)))
    listed = ", ".join(f"{names[i]} ({error[i]:.3g})" for i in worst)
    return f"Its reconstruction errors are largest, in variances of the column, in {listed}. "


def _row(log_prob: Any) -> dict[str, float]:
    several = len(log_prob) > 1 and np.all(np.isfinite(log_prob))
    se = float(log_prob.std(ddof=1) / np.sqrt(len(log_prob))) if several else float("nan")
    return {"nll": float(-log_prob.mean()), "nll_se": se}
