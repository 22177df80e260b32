"""The section on samples: what the decoder makes of the prior, beside the data."""

from dataclasses import dataclass
from statistics import NormalDist

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.evaluation.latent import decode, sample
from hvax.report import images
from hvax.report.chosen import spaced
from hvax.report.features import by_rank, gaps
from hvax.report.figures.sampled_features import sampled_features
from hvax.report.figures.sampled_series import sampled_series
from hvax.report.inputs import ReportInputs
from hvax.report.model_view import has_standard_normal_prior, num_classes
from hvax.report.names import feature_name
from hvax.report.numbers import number
from hvax.report.parts import Image, Picture
from hvax.report.series import channel_name, laid_out, series_of

_SAMPLES, _COLUMNS, _GRID = 32, 8, 13
_POINTS = 400  # test points of a histogram
_FEATURES, _CHANNELS = 12, 3
_NAME = 34  # characters above a small panel, on two lines


@dataclass(frozen=True)
class Samples:
    """The section: a sheet of images or one picture, with a warning of what is left out."""

    image: Image | None = None
    picture: Picture | None = None
    warning: str = ""


_LOST = Samples(warning="This model’s samples are not finite.")


def samples(report: ReportInputs, *, key: PRNGKeyArray) -> Samples:
    """Images, curves or histograms of samples from the prior."""
    if report.shown_as_images and not num_classes(report.model) is not None:
        return _sheet(report, key)
    return _beside_data(report, key)


def _beside_data(report: ReportInputs, key: PRNGKeyArray) -> Samples:
    x = report.test[spaced(len(report.test), _POINTS)]
    sampled = sample(
        report.model, 2 * _POINTS, latent_size=report.latent_size, key=key, progress=False
    )
    finite = np.all(np.isfinite(sampled.reshape(len(sampled), -1)), axis=1)
    if not finite.any():
        return _LOST
    lost, sampled = int((~finite).sum()), sampled[finite]
    if sampled[0].shape != x[0].shape:  # one-hot, where the data are integer classes
        sampled = sampled.argmax(axis=-1)
    series = series_of(report, x)
    if series is not None:
        picture = _series(report, series, laid_out(sampled, series))
    else:
        picture = _features(report, x.reshape(len(x), -1), sampled.reshape(len(sampled), -1))
    warning = f"{lost} samples are not finite and are left out." if lost else ""
    return Samples(picture=picture, warning=warning)


def _features(report: ReportInputs, x: NDArray, sampled: NDArray) -> Picture:
    shown = by_rank(gaps(x, sampled, report.classes), _FEATURES, largest_first=False)
    names = [
        feature_name(int(i), report.test.x_shape, report.feature_names, _NAME)
        for i in shown.features
    ]
    return sampled_features(x, sampled, shown, names, report.classes)


def _series(report: ReportInputs, x: NDArray, sampled: NDArray) -> Picture:
    channels = spaced(x.shape[-1], _CHANNELS)
    names = [channel_name(report, int(c)) for c in channels]
    return sampled_series(x[..., channels], sampled[..., channels], names)


def _sheet(report: ReportInputs, key: PRNGKeyArray) -> Samples:
    """Images on one sheet: on a grid of z where that is two-dimensional."""
    model, d = report.model, report.latent_size
    x = report.test[spaced(len(report.test), _POINTS)]
    low, high = images.levels(x)
    if d == 2 and has_standard_normal_prior(model):
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
        return _LOST
    pixels = images.as_pixels(found, low=low, high=high, x_shape=report.test.x_shape)
    there = number(float(np.nanmean(x)))
    alt += f" Mean level {number(float(found.mean()))}, of the test data {there}."
    return Samples(image=Image(images.sheet(pixels, columns), alt, words))


def _quantile_grid() -> NDArray[np.float64]:
    """z at the middles of equal shares of a standard normal; the first row has the largest z_1."""
    middle = [NormalDist().inv_cdf((i + 0.5) / _GRID) for i in range(_GRID)]
    first, second = np.meshgrid(middle, middle[::-1])
    return np.stack([first.ravel(), second.ravel()], axis=1)
