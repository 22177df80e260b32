"""The section on samples: what the decoder makes of the prior, beside the data."""

from statistics import NormalDist

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.evaluation.latent import decode, sample
from hvax.models.hvae import plain_vae
from hvax.models.likelihood import Categorical
from hvax.models.prior import StandardNormal
from hvax.report import draw, images
from hvax.report.feature_pictures import sampled_features
from hvax.report.features import by_rank, gaps
from hvax.report.figure import Picture
from hvax.report.names import feature_name
from hvax.report.numbers import number
from hvax.report.page import Html, Section, element, figure, image, joined, paragraph, text
from hvax.report.report import Report
from hvax.report.series import channel_name, chosen_channels, laid_out, series_of
from hvax.report.series_pictures import sampled_series

_SAMPLES, _COLUMNS, _GRID = 32, 8, 13
_POINTS = 400  # test points of a histogram
_FEATURES, _CHANNELS = 12, 3
_NAME = 34  # characters above a small panel, on two lines


def samples_section(report: Report, *, key: PRNGKeyArray) -> Section:
    """Images, curves or histograms of samples from the prior."""
    as_images = images.is_image(report.test.x_shape) and report.feature_names is None
    of_classes = isinstance(plain_vae(report.model).decoder.likelihood, Categorical)
    content = _sheet(report, key) if as_images and not of_classes else _beside_data(report, key)
    if content is None:
        content = paragraph("This model’s samples are not finite.", "warning")
    return Section("samples", "Samples from the prior", content)


def _beside_data(report: Report, key: PRNGKeyArray) -> Html | None:
    x = report.test[draw.spaced(len(report.test), _POINTS)]
    sampled = sample(
        report.model,
        2 * _POINTS,
        latent_size=report.evaluation["latent_size"],
        key=key,
        progress=False,
    )
    sound = np.all(np.isfinite(sampled.reshape(len(sampled), -1)), axis=1)
    if not sound.any():
        return None
    lost, sampled = int((~sound).sum()), sampled[sound]
    if sampled[0].shape != x[0].shape:  # one-hot, where the data are integer classes
        sampled = sampled.argmax(axis=-1)
    series = series_of(report, x)
    if series is not None:
        picture = _series(report, series, laid_out(sampled, series))
    else:
        picture = _features(report, x.reshape(len(x), -1), sampled.reshape(len(sampled), -1))
    shown = element("div", figure(picture), "wide")
    if not lost:
        return shown
    return joined([paragraph(f"{lost} samples are not finite and left out.", "warning"), shown])


def _features(report: Report, x: NDArray, sampled: NDArray) -> Picture:
    shown = by_rank(gaps(x, sampled), _FEATURES, largest_first=False)
    names = [
        feature_name(int(i), report.test.x_shape, report.feature_names, _NAME)
        for i in shown.features
    ]
    return sampled_features(x, sampled, shown, names)


def _series(report: Report, x: NDArray, sampled: NDArray) -> Picture:
    channels = chosen_channels(x, _CHANNELS)
    names = [channel_name(report, int(c)) for c in channels]
    return sampled_series(x[..., channels], sampled[..., channels], names)


def _sheet(report: Report, key: PRNGKeyArray) -> Html | None:
    """Images on one sheet: on a grid of z where that is two-dimensional."""
    model, d = report.model, report.evaluation["latent_size"]
    x = report.test[draw.spaced(len(report.test), _POINTS)]
    low, high = images.levels(x)
    if d == 2 and isinstance(plain_vae(model).prior, StandardNormal):
        z, columns = _quantile_grid(), _GRID
        found = decode(model, jnp.asarray(z, float), key=key, progress=False)
        alt = f"{_GRID} by {_GRID} images decoded from a grid of the two latent dimensions."
        words = (
            "E[x | z] on a grid of z: latent 0 grows to the right, latent 1 upwards, and each image"
            f" stands for 1/{len(z)} of the prior."
        )
    else:
        columns = _COLUMNS
        found = sample(model, _SAMPLES, latent_size=d, key=key, mean=True, progress=False)
        alt = f"{_SAMPLES} images decoded from draws of the prior."
        words = "E[x | z] at independent draws of z from the prior."
    if not np.all(np.isfinite(found)):
        return None
    pixels = images.as_pixels(found, low=low, high=high, x_shape=report.test.x_shape)
    alt += f" Mean level {number(float(found.mean()))}, of the test data {number(float(x.mean()))}."
    shown = image(images.sheet(pixels, columns), alt)
    caption = element("figcaption", text(words))
    return element("div", element("figure", joined([shown, caption])), "wide")


def _quantile_grid() -> NDArray[np.float64]:
    """z at the middles of equal shares of a standard normal; the first row has the largest z_1."""
    middle = [NormalDist().inv_cdf((i + 0.5) / _GRID) for i in range(_GRID)]
    first, second = np.meshgrid(middle, middle[::-1])
    return np.stack([first.ravel(), second.ravel()], axis=1)
