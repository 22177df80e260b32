"""Many small images as one .png."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.storage.files import write_atomically


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
    values = (values - low) / (high - low)
    n, height, width = values.shape[:3]
    columns = math.ceil(math.sqrt(n) / 2) * 2  # even, so that pairs stay together
    rows = math.ceil(n / columns)
    canvas = np.ones(
        (rows * (height + gap) + gap, columns * (width + gap) + gap, *values.shape[3:])
    )
    for i, image in enumerate(values):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        canvas[top : top + height, left : left + width] = image
    return canvas


def save_grid(path: Path, images: NDArray[Any]) -> None:
    """Writes `image_grid` as a .png, each pixel enlarged until the picture is easy to see."""
    import matplotlib.image

    canvas = image_grid(images)
    zoom = max(1, 600 // max(canvas.shape[:2]))
    large = canvas.repeat(zoom, axis=0).repeat(zoom, axis=1)
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, large, cmap="gray", vmin=0, vmax=1, format="png")
    write_atomically(path, buffer.getvalue())
