"""A density over two dimensions, on a grid: smoothed draws, and the regions that hold its mass."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from hvax.evaluation.posterior_grid import Density

_CELLS = 80  # along each axis
_BLOCK = 512  # draws that are summed at once


def smoothed(draws: Float[np.ndarray, "n 2"], low: NDArray, high: NDArray) -> Density:
    """A Gaussian kernel estimate of the density of draws on a box.

    The kernel has the draws' covariance times n^(-1/3), Scott's bandwidth, so it is narrow in the
    direction in which they are; it widens a Gaussian's standard deviations by 4% at n = 2,000.
    """
    draws = draws.astype(np.float64)
    mean = draws.mean(axis=0)
    centered = draws - mean
    covariance = centered.T @ centered / len(draws)
    # Draws that do not vary along an axis get a kernel all the same.
    tiny = 1e-12 * max(float(np.trace(covariance)), float(np.max(mean**2)), 1e-200)
    width = len(draws) ** (-1 / 6)
    to_unit = np.linalg.inv(np.linalg.cholesky(covariance + tiny * np.eye(2)) * width)
    first, second = (np.linspace(low[i], high[i], _CELLS) for i in (0, 1))
    grid = (np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2) - mean) @ to_unit.T
    points = centered @ to_unit.T
    total = np.zeros(len(grid))
    for start in range(0, len(points), _BLOCK):
        some = points[start : start + _BLOCK]
        square = (grid**2).sum(1)[:, None] - 2 * grid @ some.T + (some**2).sum(1)
        total += np.exp(-0.5 * np.maximum(square, 0)).sum(axis=1)
    log_density = np.log(np.maximum(total, 1e-300)).reshape(_CELLS, _CELLS)
    return Density(first, second, log_density)


def mass_levels(log_density: NDArray[np.float64], masses: tuple[float, ...]) -> list[float]:
    """The levels above which the densest cells of a grid hold these fractions of the whole."""
    descending = np.sort(log_density, axis=None)[::-1]
    held = np.exp(descending - descending[0]).cumsum()
    return [float(descending[np.searchsorted(held, mass * held[-1])]) for mass in masses]


def box(
    whole: Float[np.ndarray, "_ 2"], *clouds: Float[np.ndarray, "_ 2"]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high corners that hold all of the first cloud and nearly all of each other one."""
    ends = [whole, *(np.percentile(cloud, (1, 99), axis=0) for cloud in clouds)]
    low = np.min([points.min(axis=0) for points in ends], axis=0).astype(np.float64)
    high = np.max([points.max(axis=0) for points in ends], axis=0).astype(np.float64)
    pad = 0.12 * np.maximum(high - low, 1e-9 * np.maximum(abs(low), abs(high)) + 1e-300)
    return low - pad, high + pad
