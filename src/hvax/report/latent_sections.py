"""The section with the map of the latent space."""

import numpy as np
from jaxtyping import PRNGKeyArray

from hvax.report import draw
from hvax.report.latent_pictures import latent_map
from hvax.report.page import Section, element, figure
from hvax.report.report import Report, has_flow

_MAPPED = 800  # test points on the map


def latent_section(report: Report, *, key: PRNGKeyArray) -> Section | None:
    """The map of the latent space, where it has two dimensions or more."""
    if report.evaluation["latent_size"] < 2 or len(report.test) < 3:
        return None
    index = draw.spaced(len(report.test), _MAPPED)
    points = draw.embedded(report.model, report.test, index, key=key)
    sound = np.all(np.isfinite(points.mean), axis=1) & np.all(np.isfinite(points.z), axis=1)
    if sound.sum() < 3:
        return None
    points = draw.Embedded(points.mean[sound], points.z[sound])
    labels = None if report.labels is None else report.labels[index][sound]
    picture = latent_map(draw.projected(points), labels, flowed=has_flow(report.model))
    return Section("latent", "Latent space", element("div", figure(picture), "wide"))
