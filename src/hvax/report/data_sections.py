"""The sections that show data: reconstructions, samples, the map of the latent space."""

from statistics import NormalDist

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.evaluation.latent import decoded, prior_samples
from hvax.models.hvae import HVAE, plain_vae
from hvax.models.likelihood import Categorical, NegativeBinomial, Poisson
from hvax.models.prior import StandardNormal
from hvax.report import draw, feature_pictures, images
from hvax.report.latent_pictures import latent_map
from hvax.report.numbers import number
from hvax.report.page import Html, Section, element, figure, image, joined, paragraph, text
from hvax.report.report import Report

_PAIRS = 12  # reconstructions shown of images
_SAMPLES, _COLUMNS, _GRID = 32, 8, 13
_POINTS, _MAPPED = 400, 800  # test points of a scatter plot, and of the map
_FEATURES = 12
_SAMPLES_TITLE = "Samples from the prior"
_LONG = 50  # the largest count of a linear axis


def reconstruction_section(report: Report, *, key: PRNGKeyArray) -> Section:
    """Images beside their reconstructions; of vectors, each feature against its own."""
    of_classes = isinstance(plain_vae(report.model).decoder.likelihood, Categorical)
    as_images = images.is_image(report.test.x_shape)
    most = _PAIRS if as_images or of_classes else _POINTS
    index = draw.spaced(len(report.test), most)
    found = draw.reconstructed(report.model, report.test, index, key=key)
    if not np.all(np.isfinite(found.mean)):
        return _nothing("reconstructions", "Reconstructions", "reconstructions")
    if images.is_image(found.x.shape[1:]) or of_classes:
        if not images.is_image(found.x.shape[1:]):
            found = found._replace(
                x=found.x.reshape(len(index), -1, found.x.shape[-1]),
                mean=found.mean.reshape(len(index), -1, found.x.shape[-1]),
            )
        body = _pairs(found, None if report.labels is None else report.labels[index])
        words = f"{len(index)} test points, evenly spaced: the input on the left, E[x | z] "
    else:
        x, mean = (array.reshape(len(index), -1) for array in (found.x, found.mean))
        shown = draw.chosen_features(x, _FEATURES)
        picture = feature_pictures.reconstructed_features(
            x, mean, shown, logarithm=_long_tailed(report, x)
        )
        body = element("div", figure(picture), "wide")
        words = "What comes back of a test point: E[x | z] "
    drawn = "at one z after the flow." if isinstance(report.model, HVAE) else "at one z."
    return Section("reconstructions", "Reconstructions", joined([paragraph(words + drawn), body]))


def samples_section(report: Report, *, key: PRNGKeyArray) -> Section:
    """What the decoder makes of the prior."""
    model, d = report.model, report.evaluation["latent_size"]
    x_shape, vae = report.test.x_shape, plain_vae(report.model)
    if not images.is_image(x_shape) or isinstance(vae.decoder.likelihood, Categorical):
        x = report.test[draw.spaced(len(report.test), _POINTS)]
        sampled = prior_samples(model, 2 * _POINTS, d, key=key)
        if not np.all(np.isfinite(sampled)):
            return _nothing("samples", _SAMPLES_TITLE, "samples")
        if sampled[0].shape != x[0].shape:  # one-hot, where the data are integer classes
            sampled = sampled.argmax(axis=-1)
        x, sampled = x.reshape(len(x), -1), sampled.reshape(len(sampled), -1)
        shown = draw.chosen_features(x, _FEATURES)
        picture = feature_pictures.sampled_features(
            x, sampled, shown, logarithm=_long_tailed(report, x)
        )
        body = element("div", figure(picture), "wide")
        return Section("samples", _SAMPLES_TITLE, body)
    x = report.test[draw.spaced(len(report.test), _POINTS)]
    low, high = images.levels(x)
    if d == 2 and isinstance(vae.prior, StandardNormal):
        z, columns = _quantile_grid(), _GRID
        found = decoded(model, jnp.asarray(z, float), key=key, mean=True)
        alt = f"{_GRID} by {_GRID} images decoded from a grid of the two latent dimensions."
        words = (
            "E[x | z] on a grid of z: latent 1 grows to the right, latent 2 upwards, and each image"
            f" stands for 1/{len(z)} of the prior."
        )
    else:
        columns = _COLUMNS
        found = prior_samples(model, _SAMPLES, d, key=key, mean=True)
        alt = f"{_SAMPLES} images decoded from draws of the prior."
        words = "E[x | z] at independent draws of z from the prior."
    if not np.all(np.isfinite(found)):
        return _nothing("samples", _SAMPLES_TITLE, "samples")
    pixels = images.as_pixels(found, low=low, high=high, x_shape=x_shape)
    alt += f" Mean level {number(float(found.mean()))}, of the test data {number(float(x.mean()))}."
    picture_html = image(images.sheet(pixels, columns), alt)
    body = element(
        "div", element("figure", joined([picture_html, element("figcaption", text(words))])), "wide"
    )
    return Section("samples", _SAMPLES_TITLE, body)


def latent_section(report: Report, *, key: PRNGKeyArray) -> Section | None:
    """The map of the latent space, where it has two dimensions or more."""
    if report.evaluation["latent_size"] < 2 or len(report.test) < 3:
        return None
    index = draw.spaced(len(report.test), _MAPPED)
    points = draw.embedded(report.model, report.test, index, key=key)
    if not (np.all(np.isfinite(points.mean)) and np.all(np.isfinite(points.z))):
        return None
    labels = None if report.labels is None else report.labels[index]
    flowed = isinstance(report.model, HVAE) and report.model.flow.num_steps > 0
    picture = latent_map(draw.projected(points), labels, flowed=flowed)
    body = element("div", figure(picture), "wide")
    return Section("latent", "Latent space", body)


def _long_tailed(report: Report, x: NDArray) -> bool:
    """Whether x holds counts that span more than a linear axis shows."""
    counts = isinstance(plain_vae(report.model).decoder.likelihood, Poisson | NegativeBinomial)
    return counts and bool(x.max() > _LONG)


def _nothing(name: str, title: str, what: str) -> Section:
    return Section(name, title, paragraph(f"This model’s {what} are not finite.", "warning"))


def _pairs(found: draw.Reconstructed, labels: NDArray | None) -> Html:
    """Each image beside its reconstruction."""
    low, high = images.levels(found.x)
    shape = found.x.shape[1:]
    pairs = zip(
        images.as_pixels(found.x, low=low, high=high, x_shape=shape),
        images.as_pixels(found.mean, low=low, high=high, x_shape=shape),
        strict=True,
    )
    figures = []
    for i, pair in enumerate(pairs):
        error = float(np.sqrt(np.mean((found.x[i] - found.mean[i]) ** 2)))
        name, caption = f"Test point {found.rows[i]}", f"rms error {number(error)}"
        if labels is not None:
            name, caption = f"{name}, labelled “{labels[i]}”", f"“{labels[i]}”, {caption}"
        alt = (
            f"{name}: input on the left, reconstruction on the right; root mean square difference "
            f"{number(error, 3)}."
        )
        shown = [image(images.sheet(np.stack(pair), 2), alt), element("figcaption", text(caption))]
        figures.append(element("figure", joined(shown)))
    return element("div", joined(figures), "pairs")


def _quantile_grid() -> NDArray[np.float64]:
    """z at the middles of equal shares of a standard normal; the first row has the largest z_2."""
    middle = [NormalDist().inv_cdf((i + 0.5) / _GRID) for i in range(_GRID)]
    first, second = np.meshgrid(middle, middle[::-1])
    return np.stack([first.ravel(), second.ravel()], axis=1)
