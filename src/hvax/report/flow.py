"""The section on the flow: what was learned of it, and how well it follows its energy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import PRNGKeyArray

from hvax.evaluation.trajectories import paths
from hvax.report.chosen import spaced
from hvax.report.figures.bound_by_step import bound_by_step
from hvax.report.figures.bridge import bridge
from hvax.report.figures.energy_errors import energy_errors
from hvax.report.figures.schedule import schedule
from hvax.report.figures.step_sizes import step_sizes
from hvax.report.inputs import ReportInputs
from hvax.report.model_view import flow_view, points_of
from hvax.report.parts import Picture

_POINTS, _DRAWS = 200, 10  # of the energy errors and of the bound by step


@dataclass(frozen=True)
class Flow:
    """The section: words, and pictures of what there is to show."""

    words: str
    pictures: Sequence[Picture]


def flow(report: ReportInputs, *, key: PRNGKeyArray) -> Flow | None:
    """The section; None where nothing moves the encoder's draws."""
    if not report.moved:
        return None
    found = flow_view(report.model)
    points = points_of(report.model, report.test, spaced(len(report.test), _POINTS))
    drawn = paths(report.model, points, _DRAWS, key=key)
    errors = np.concatenate(drawn.energy_errors)  # a row for each draw of each point
    pictures = [
        bound_by_step(drawn.log_weight),
        energy_errors(errors, midway=found.midway) if errors.size else None,
        None if found.bridge is None else bridge(found.bridge, learned=found.bridge_learned),
        None if found.beta is None else schedule(found.beta, learned=found.beta_learned),
        None
        if found.step_sizes is None
        else step_sizes(found.step_sizes, learned=found.step_sizes_learned),
    ]
    return Flow(found.words, [one for one in pictures if one is not None])
