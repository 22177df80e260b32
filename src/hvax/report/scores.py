"""The models of a report, by name, with their numbers."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from hvax.report.inputs import ReportInputs
from hvax.report.numbers import known, number

Evaluation = Mapping[str, Any]

Difference = Mapping[str, Any] | None
"""Of the first model from the second, paired over points, where it is known."""


class Score(NamedTuple):
    """A model's name, the CSS class of its color, and its numbers."""

    name: str
    kind: str
    evaluation: Evaluation


def scores_of(report: ReportInputs) -> list[Score]:
    """The model and, where there is one, the plain VAE beside it."""
    scores = [Score(report.model_name, "model", known(report.evaluation))]
    if report.baseline is not None:
        scores.append(Score("VAE", "baseline", known(report.baseline)))
    return scores


def with_error(value: float, error: float | None, *, sign: bool = False) -> str:
    """A difference, whose error is not known where there is one point."""
    known = "" if error is None or math.isnan(error) else f" ± {number(error, 3)}"
    return number(value, 3, sign=sign) + known
