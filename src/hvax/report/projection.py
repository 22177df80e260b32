"""Points of a latent space of any size in two dimensions: the first two principal axes."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Embedded(NamedTuple):
    """Data points in the latent space: the encoder's means, and one z_K each."""

    mean: Float[np.ndarray, "n d"]
    z: Float[np.ndarray, "n d"]


class Projection(NamedTuple):
    """Two coordinates of each point, and what the axes are."""

    mean: Float[np.ndarray, "n 2"]
    z: Float[np.ndarray, "n 2"]
    explained: tuple[float, float] | None  # of the means' variance, where the axes are principal


def projected(points: Embedded) -> Projection:
    """The two latent axes where there are two, else the means' first two principal axes."""
    if points.mean.shape[1] == 2:
        return Projection(points.mean, points.z, None)
    center = points.mean.mean(axis=0)
    axes, explained = principal_axes(points.mean - center)
    return Projection((points.mean - center) @ axes, (points.z - center) @ axes, explained)


def principal_axes(
    centered: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, "d 2"], tuple[float, float]]:
    """Two orthonormal directions of largest variance, and their fractions of it.

    Each points to where its largest component is positive.
    """
    _, singular, directions = np.linalg.svd(centered.astype(np.float64), full_matrices=False)
    axes = directions[:2].T
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(2)])
    variance = singular**2
    first, second = variance[:2] / max(variance.sum(), np.finfo(float).tiny)
    return axes, (float(first), float(second))
