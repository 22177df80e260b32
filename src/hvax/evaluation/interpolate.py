"""Interpolation between points of the latent space."""

from typing import Any, Literal

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float
from numpy.typing import NDArray

from hvax.checks import count, real_array

_PARALLEL = 1e-4  # sine of the angle below which two vectors count as parallel


def interpolate(
    start: ArrayLike,
    end: ArrayLike,
    num_points: int,
    *,
    path: Literal["linear", "spherical"] = "spherical",
) -> Float[np.ndarray, "*n num_points d"]:
    """Latent points on a path from `start` to `end`, both included.

    "linear" is (1 - t) start + t end at even steps of t. "spherical" interpolates direction and
    length separately at constant rates, and so stays where a standard normal has its mass. If the
    ends are parallel or one is the origin, it is the straight line.

    Two vectors (d,) give (num_points, d); two batches (n, d) give (n, num_points, d), which
    `decode` takes as `.reshape(-1, d)`. Raises `ValueError` for fewer than two points, ends of
    different shapes, or an unknown path.
    """
    num_points = count(num_points, "num_points", least=2)
    first, last = _points(start, "start"), _points(end, "end")
    if first.shape != last.shape:
        raise ValueError(f"end must have the shape of start, {first.shape}, got {last.shape}.")
    if path not in ("linear", "spherical"):
        raise ValueError(f"path must be 'linear' or 'spherical', got {path!r}.")
    a, b = (ends.astype(np.float64)[..., None, :] for ends in (first, last))
    t = np.linspace(0.0, 1.0, num_points)[:, None]
    points = (1 - t) * a + t * b
    if path == "spherical":
        points = _spherical(a, b, t, points)
    return points.astype(np.result_type(first, last))


def _spherical(
    a: NDArray[np.float64], b: NDArray[np.float64], t: NDArray[np.float64], straight: NDArray[Any]
) -> NDArray[np.float64]:
    lengths = tuple(np.linalg.norm(ends, axis=-1, keepdims=True) for ends in (a, b))
    no_length = (lengths[0] == 0) | (lengths[1] == 0)
    of_a, of_b = (np.where(no_length, 1.0, length) for length in lengths)
    cosine = np.sum(a / of_a * (b / of_b), axis=-1, keepdims=True)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    flat = no_length | (np.sin(angle) < _PARALLEL)
    angle = np.where(flat, 1.0, angle)  # any number but 0: these rows take the straight line
    length = (1 - t) * of_a + t * of_b
    turned = np.sin((1 - t) * angle) * (a / of_a) + np.sin(t * angle) * (b / of_b)
    return np.where(flat, straight, length * turned / np.sin(angle))


def _points(value: ArrayLike, name: str) -> NDArray[Any]:
    """One point or a batch of points in floating point, in the precision given."""
    real_array(value, name)  # only to check: the JAX array it returns may be narrower
    array = np.asarray(value)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{name} must have shape (d,) or (n, d), got {array.shape}.")
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
