"""The section on reconstructions: images, series or features beside what comes back of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.data.examples import Examples
from hvax.evaluation.latent import decode
from hvax.evaluation.trajectories import paths
from hvax.report import images
from hvax.report.chosen import spaced
from hvax.report.features import agreement, by_rank
from hvax.report.figures.reconstructed_features import reconstructed_features
from hvax.report.figures.reconstructed_series import reconstructed_series
from hvax.report.inputs import ReportInputs
from hvax.report.model_view import Model, num_classes, points_of
from hvax.report.names import feature_name, short
from hvax.report.numbers import number
from hvax.report.parts import Image, Picture
from hvax.report.series import channel_name, laid_out, series_of

_PAIRS = 12  # reconstructions shown of images
_POINTS = 400  # test points of a scatter plot
_FEATURES = 12
_SERIES, _CHANNELS = 6, 3
_NAME = 34  # characters above a small panel, on two lines


@dataclass(frozen=True)
class Reconstructions:
    """The section: images in pairs or one picture; `warning` where there is nothing to show."""

    words: str = ""
    pairs: Sequence[Image] = ()
    picture: Picture | None = None
    warning: str = ""


class Reconstructed(NamedTuple):
    """Inputs and E[x | z_K] at one draw each, of one shape."""

    rows: NDArray[np.int64]  # of the test data
    x: NDArray[Any]
    mean: NDArray[Any]


def reconstructions(report: ReportInputs, *, key: PRNGKeyArray) -> Reconstructions:
    """Images beside their reconstructions; curves of series; of vectors, each feature against its
    own."""
    in_pairs = report.shown_as_images or num_classes(report.model) is not None
    rows = spaced(len(report.test), _PAIRS if in_pairs else _POINTS)
    found, lost = _finite(reconstructed(report.model, report.test, rows, key=key))
    if len(found.rows) == 0:
        return Reconstructions(warning="This model’s reconstructions are not finite.")
    how = "at one draw of z, after the flow." if report.moved else "at one draw of z."
    if lost:
        how += f" For {lost} more it is not finite."
    if in_pairs:
        words = f"{len(found.rows)} test points, evenly spaced: the input on the left, E[x | z] "
        return Reconstructions(words + how, pairs=_pairs(report, found))
    series = series_of(report, found.x)
    if series is None:
        picture = _features(report, found)
    else:
        picture = _series(report, found.rows, series, laid_out(found.mean, series))
    return Reconstructions(f"Reconstructions of test points: E[x | z] {how}", picture=picture)


def reconstructed(
    model: Model, test: Examples, rows: NDArray[np.int64], *, key: PRNGKeyArray
) -> Reconstructed:
    """Some test points and their reconstructions.

    Vectors of classes are one-hot; images of classes show the most probable one.
    """
    draw_key, decoder_key = jax.random.split(key)
    x = test[rows]
    z = paths(model, points_of(model, test, rows), 1, key=draw_key).z[:, 0, -1]
    mean = decode(model, z, key=decoder_key, progress=False)
    classes = num_classes(model)
    if classes is not None:
        x = np.eye(classes)[x] if x.shape != mean.shape else x
        if x.ndim > 3:
            x, mean = x.argmax(axis=-1), mean.argmax(axis=-1)
    return Reconstructed(rows, x, mean)


def _finite(found: Reconstructed) -> tuple[Reconstructed, int]:
    """The points whose reconstruction is finite, and how many are not."""
    sound = np.all(np.isfinite(found.mean.reshape(len(found.mean), -1)), axis=1)
    return Reconstructed(*(array[sound] for array in found)), int((~sound).sum())


def _features(report: ReportInputs, found: Reconstructed) -> Picture:
    x, mean = (array.reshape(len(array), -1) for array in (found.x, found.mean))
    shown = by_rank(agreement(x, mean, report.classes), _FEATURES, largest_first=True)
    names = [
        feature_name(int(i), report.test.x_shape, report.feature_names, _NAME)
        for i in shown.features
    ]
    return reconstructed_features(x, mean, shown, names, report.classes)


def _series(report: ReportInputs, rows: NDArray[np.int64], x: NDArray, mean: NDArray) -> Picture:
    """Of a few examples, from the smallest error to the largest."""
    spread = np.nanstd(x, axis=(0, 1), dtype=np.float64)
    error = np.sqrt(np.nanmean(((x - mean) / np.where(spread > 0, spread, 1.0)) ** 2, axis=(1, 2)))
    order = np.argsort(error, kind="stable")
    order = order[spaced(len(order), _SERIES)]
    channels = spaced(x.shape[-1], _CHANNELS)
    names = [channel_name(report, int(c)) for c in channels]
    rms = np.sqrt(np.nanmean((x - mean) ** 2, axis=(1, 2)))
    named = []
    for row in rows[order]:
        label = report.label(row)
        named.append(f"test point {row}" + ("" if label is None else f" ({short(label, 12)})"))
    x, mean = x[order][..., channels], mean[order][..., channels]
    return reconstructed_series(x, mean, named, names, rms[order])


def _pairs(report: ReportInputs, found: Reconstructed) -> list[Image]:
    """Each image beside its reconstruction; vectors of classes as images, a row for each."""
    x, mean = found.x, found.mean
    if not (report.shown_as_images and images.is_image(x.shape[1:])):
        x, mean = (array.reshape(len(array), -1, array.shape[-1]) for array in (x, mean))
    low, high = images.levels(x)
    there, back = (
        images.as_pixels(array, low=low, high=high, x_shape=x.shape[1:]) for array in (x, mean)
    )
    shown = []
    for i, row in enumerate(found.rows):
        error = float(np.sqrt(np.nanmean((x[i] - mean[i]) ** 2)))
        name, caption = f"Test point {row}", f"rms error {number(error)}"
        label = report.label(row)
        if label is not None:
            name, caption = f"{name}, labeled “{label}”", f"“{label}”, {caption}"
        alt = (
            f"{name}: input on the left, reconstruction on the right; root mean square difference "
            f"{number(error, 3)}."
        )
        shown.append(Image(images.sheet(np.stack([there[i], back[i]]), 2), alt, caption))
    return shown
