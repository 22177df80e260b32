"""The map of the latent space: where the test data lie in it."""

import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.data.examples import Examples
from hvax.evaluation.trajectories import paths
from hvax.report.chosen import spaced
from hvax.report.figures.latent_map import latent_map
from hvax.report.inputs import ReportInputs
from hvax.report.model_view import Model, points_of
from hvax.report.parts import Picture
from hvax.report.projection import Embedded, projected

_MAPPED = 800  # test points on the map


def latent(report: ReportInputs, *, key: PRNGKeyArray) -> Picture | None:
    """The map of the latent space, where it has two dimensions or more."""
    if report.latent_size < 2 or len(report.test) < 3:
        return None
    rows = spaced(len(report.test), _MAPPED)
    points = embedded(report.model, report.test, rows, key=key)
    finite = np.all(np.isfinite(points.mean), axis=1) & np.all(np.isfinite(points.z), axis=1)
    if finite.sum() < 3:
        return None
    points = Embedded(points.mean[finite], points.z[finite])
    labels = None if report.labels is None else report.labels[rows][finite]
    return latent_map(projected(points), labels, flowed=report.moved)


def embedded(
    model: Model, test: Examples, rows: NDArray[np.int64], *, key: PRNGKeyArray
) -> Embedded:
    """Some test points in the latent space."""
    found = paths(model, points_of(model, test, rows), 1, key=key)
    return Embedded(found.mean, found.z[:, 0, -1])
