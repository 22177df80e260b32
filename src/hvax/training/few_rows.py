"""The least sigma that a density learned from few rows may have."""

import numpy as np
from numpy.typing import NDArray

FEW = 10
"""With n rows, a feature's sigma is at least (FEW / n)^1.5 of its standard deviation.

A network memorizes few rows, and a free sigma would then go to 0. A lower sigma is allowed if a
linear model shows on held-out rows that the feature can be predicted that well."""

_RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_FOLDS, _MOST_FEATURES = 5, 200
_BETTER = 0.5  # a network may reach this fraction of a linear model's error


def least_sigma(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least sigma of each feature (d,), from rows (n, d) of mean 0 and variance 1."""
    n, d = y.shape
    # At most half: with 10 rows or fewer the formula would allow nothing narrower than the data.
    least = np.full(d, min(0.5, (FEW / n) ** 1.5))
    if d > _MOST_FEATURES or n < 2 * _FOLDS:
        return least
    return np.minimum(least, _BETTER * linear_errors(y))


def linear_errors(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The error (rms) of predicting each feature from all others by ridge regression: (d,).

    Five-fold cross-validation on rows y (n, d), with the best ridge for each feature.
    """
    # One inverse gives all d regressions: with P the inverse of S + ridge I, S the covariance, the
    # residual of feature j given all others is (P y)_j / P_jj.
    n, d = y.shape
    errors = np.zeros((len(_RIDGES), d))
    for fold in range(_FOLDS):
        out = np.arange(n) % _FOLDS == fold
        mean = y[~out].mean(axis=0)
        centered = y[~out] - mean
        covariance = centered.T @ centered / len(centered)
        for i, ridge in enumerate(_RIDGES):
            precision = np.linalg.inv(covariance + ridge * np.eye(d))
            errors[i] += np.sum(((y[out] - mean) @ precision / np.diag(precision)) ** 2, axis=0)
    return np.sqrt(errors.min(axis=0) / n)
