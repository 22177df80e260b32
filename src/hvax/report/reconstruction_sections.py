"""The section on reconstructions: images, series or features beside what comes back of them."""

import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.models.hvae import plain_vae
from hvax.models.likelihood import Categorical
from hvax.report import draw, images
from hvax.report.feature_pictures import reconstructed_features
from hvax.report.features import by_rank, correlations
from hvax.report.figure import Picture
from hvax.report.names import feature_name, short
from hvax.report.numbers import number
from hvax.report.page import Html, Section, element, figure, image, joined, paragraph, text
from hvax.report.report import Report, has_flow
from hvax.report.series import channel_name, chosen_channels, laid_out, series_of
from hvax.report.series_pictures import reconstructed_series

_PAIRS = 12  # reconstructions shown of images
_POINTS = 400  # test points of a scatter plot
_FEATURES = 12
_SERIES, _CHANNELS = 6, 3
_NAME = 34  # characters above a small panel, on two lines


def reconstruction_section(report: Report, *, key: PRNGKeyArray) -> Section:
    """Images beside their reconstructions; curves of series; of vectors, each feature against its
    own."""
    of_classes = isinstance(plain_vae(report.model).decoder.likelihood, Categorical)
    as_images = images.is_image(report.test.x_shape) and report.feature_names is None
    pairs = as_images or of_classes
    index = draw.spaced(len(report.test), _PAIRS if pairs else _POINTS)
    found, lost = _finite(draw.reconstructed(report.model, report.test, index, key=key))
    if len(found.rows) == 0:
        words = "This model’s reconstructions are not finite."
        return Section("reconstructions", "Reconstructions", paragraph(words, "warning"))
    series = None if pairs else series_of(report, found.x)
    words = "What comes back of a test point: E[x | z] "
    if pairs:
        body = _pairs(found, report.labels, as_images=as_images)
        words = f"{len(found.rows)} test points, evenly spaced: the input on the left, E[x | z] "
    elif series is not None:
        back = laid_out(found.mean, series)
        body = element("div", figure(_series(report, found.rows, series, back)), "wide")
    else:
        body = element("div", figure(_features(report, found)), "wide")
    words += "at one z after the flow." if has_flow(report.model) else "at one z."
    if lost:
        words += f" Of {lost} more it is not finite."
    return Section("reconstructions", "Reconstructions", joined([paragraph(words), body]))


def _finite(found: draw.Reconstructed) -> tuple[draw.Reconstructed, int]:
    """The points whose reconstruction is finite, and how many are not."""
    sound = np.all(np.isfinite(found.mean.reshape(len(found.mean), -1)), axis=1)
    return draw.Reconstructed(*(array[sound] for array in found)), int((~sound).sum())


def _features(report: Report, found: draw.Reconstructed) -> Picture:
    x, mean = (array.reshape(len(array), -1) for array in (found.x, found.mean))
    shown = by_rank(correlations(x, mean), _FEATURES, largest_first=True)
    names = [
        feature_name(int(i), report.test.x_shape, report.feature_names, _NAME)
        for i in shown.features
    ]
    return reconstructed_features(x, mean, shown, names)


def _series(report: Report, rows: NDArray[np.int64], x: NDArray, mean: NDArray) -> Picture:
    """Of a few examples, from the smallest error to the largest."""
    spread = x.std(axis=(0, 1), dtype=np.float64)
    error = np.sqrt(np.mean(((x - mean) / np.where(spread > 0, spread, 1.0)) ** 2, axis=(1, 2)))
    order = np.argsort(error, kind="stable")
    order = order[draw.spaced(len(order), _SERIES)]
    channels = chosen_channels(x, _CHANNELS)
    names = [channel_name(report, int(c)) for c in channels]
    rms = np.sqrt(np.mean((x - mean) ** 2, axis=(1, 2)))
    named = []
    for row in rows[order]:
        label = "" if report.labels is None else f" ({short(str(report.labels[row]), 12)})"
        named.append(f"test point {row}{label}")
    x, mean = x[order][..., channels], mean[order][..., channels]
    return reconstructed_series(x, mean, named, names, rms[order])


def _pairs(found: draw.Reconstructed, labels: NDArray | None, *, as_images: bool) -> Html:
    """Each image beside its reconstruction; vectors of classes as images, a row for each."""
    x, mean = found.x, found.mean
    if not (as_images and images.is_image(x.shape[1:])):
        x, mean = (array.reshape(len(array), -1, array.shape[-1]) for array in (x, mean))
    low, high = images.levels(x)
    shape = x.shape[1:]
    pairs = zip(
        images.as_pixels(x, low=low, high=high, x_shape=shape),
        images.as_pixels(mean, low=low, high=high, x_shape=shape),
        strict=True,
    )
    figures = []
    for i, pair in enumerate(pairs):
        row = found.rows[i]
        error = float(np.sqrt(np.mean((x[i] - mean[i]) ** 2)))
        name, caption = f"Test point {row}", f"rms error {number(error)}"
        if labels is not None:
            name, caption = f"{name}, labeled “{labels[row]}”", f"“{labels[row]}”, {caption}"
        alt = (
            f"{name}: input on the left, reconstruction on the right; root mean square difference "
            f"{number(error, 3)}."
        )
        shown = [image(images.sheet(np.stack(pair), 2), alt), element("figcaption", text(caption))]
        figures.append(element("figure", joined(shown)))
    return element("div", joined(figures), "pairs")
