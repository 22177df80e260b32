"""A reference that a trained model should beat: one Gaussian with a full covariance matrix."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 1000  # features, at most: the covariance matrix has that squared


def gaussian_log_prob(
    train: NDArray[Any], x: NDArray[Any], *, floor: NDArray[Any]
) -> NDArray[np.float64]:
    """log p(x) of each row under a Gaussian with the training rows' mean and covariance, in nats.

    `train` and `x` are real rows (n, ...). `floor` is the least standard deviation of each feature,
    in the feature's units: its square is added to the diagonal, as in a standardized likelihood, so
    that collinear columns do not give an infinite density.
    """
    rows = np.asarray(train, np.float64).reshape(len(train), -1)
    mean, sd = rows.mean(0), rows.std(0)
    sd = np.where(sd > 0, sd, 1.0)
    standard = (rows - mean) / sd
    covariance = standard.T @ standard / len(rows)
    covariance[np.diag_indices_from(covariance)] += (np.ravel(floor) / sd) ** 2
    # log p = -|L^-1 y|^2 / 2 - log det L - ... with the Cholesky factor L: no inverse is formed.
    factor = np.linalg.cholesky(covariance)
    deviations = (np.asarray(x, np.float64).reshape(len(x), -1) - mean) / sd
    solved = np.linalg.solve(factor, deviations.T)
    log_det = np.log(np.diag(factor)).sum() + np.log(sd).sum()
    return -0.5 * (solved**2).sum(0) - log_det - 0.5 * len(sd) * math.log(2 * math.pi)
