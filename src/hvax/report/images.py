"""Arrays as images: what counts as one, gray levels and colors, and many on one sheet."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.storage.files import write_atomically

_LEAST, _MOST = 4, 128  # pixels along a side: fewer make no image, more are left out
_CHANNELS, _LONG = 8, 4  # (T, C) of at most so many C and a ratio above this are series
_SHOWN = 56  # pixels of a small image's width on a sheet


def is_image(x_shape: tuple[int, ...]) -> bool:
    """Whether data of this shape are pictures: (h, w), (h, w, 1 or 3) or (1 or 3, h, w).

    Narrow ones, such as (100, 6), are no pictures but series of several channels.
    """
    sides = _sides(x_shape)
    if sides is None or min(sides) < _LEAST:
        return False
    return len(x_shape) == 3 or min(sides) > _CHANNELS or max(sides) <= _LONG * min(sides)


def as_pixels(
    x: NDArray[Any], *, low: float, high: float, x_shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Images (n, *x_shape) as RGBA (n, height, width, 4); `low` is black and `high` is full.

    Of sides longer than 128 pixels every second, third, ... pixel is kept.
    """
    if len(x_shape) == 2:
        x = x[..., None]
    elif x_shape[-1] not in (1, 3):
        x = np.moveaxis(x, 1, -1)
    every = -(-max(x.shape[1:3]) // _MOST)
    x = x[:, ::every, ::every].astype(np.float64)
    level = np.clip((np.nan_to_num(x) - low) / max(high - low, 1e-12), 0, 1)
    color = np.broadcast_to(level, (*level.shape[:3], 3))
    opaque = np.ones((*level.shape[:3], 1))
    return np.round(255 * np.concatenate([color, opaque], axis=-1)).astype(np.uint8)


def levels(x: NDArray[Any]) -> tuple[float, float]:
    """What to show as black and as white: 0 and 1 for data between them, else their extremes."""
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def sheet(pixels: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Images (n, height, width, 4) side by side in rows, small ones enlarged, gaps transparent."""
    zoom = max(1, round(_SHOWN / pixels.shape[2]))
    pixels = pixels.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return _tiled(pixels, columns, gap=max(2, pixels.shape[2] // 16), between=0.0)


def image_grid(images: NDArray[Any], *, gap: int = 1) -> NDArray[np.float64]:
    """(n, h, w) or (n, h, w, c) images of [0, 1] in rows of about sqrt(n), white between them.

    Values outside [0, 1] are scaled to their own range. Raises `ValueError` for vectors.
    """
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        raise ValueError(
            f"a .png needs images, (n, height, width[, channels]); these are {images.shape}: "
            "write a .npy instead."
        )
    values = images.astype(np.float64)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    low, high = min(0.0, values.min()), max(1.0, values.max())
    columns = math.ceil(math.sqrt(len(values)) / 2) * 2  # even, so that pairs stay together
    inside = _tiled((values - low) / (high - low), columns, gap=gap, between=1.0)
    return np.pad(inside, [(gap, gap)] * 2 + [(0, 0)] * (values.ndim - 3), constant_values=1.0)


def save_grid(path: Path, images: NDArray[Any]) -> None:
    """Writes `image_grid` as a .png, each pixel enlarged until the picture is easy to see."""
    import matplotlib.image

    canvas = image_grid(images)
    zoom = max(1, 600 // max(canvas.shape[:2]))
    large = canvas.repeat(zoom, axis=0).repeat(zoom, axis=1)
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, large, cmap="gray", vmin=0, vmax=1, format="png")
    write_atomically(path, buffer.getvalue())


def _tiled(images: NDArray[Any], columns: int, *, gap: int, between: float) -> NDArray[Any]:
    """Images (n, height, width, ...) side by side in rows; `between` is the value of the gaps."""
    count, height, width = images.shape[:3]
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *images.shape[3:])
    whole = np.full(shape, between, images.dtype)
    for i, one in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        whole[top : top + height, left : left + width] = one
    return whole


def _sides(x_shape: tuple[int, ...]) -> tuple[int, int] | None:
    if len(x_shape) == 2:
        return x_shape[0], x_shape[1]
    if len(x_shape) == 3 and x_shape[2] in (1, 3):
        return x_shape[0], x_shape[1]
    if len(x_shape) == 3 and x_shape[0] in (1, 3):
        return x_shape[1], x_shape[2]
    return None
