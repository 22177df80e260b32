"""A few pictures of a trained model, as HTML for a notebook's cell."""

import jax

from hvax.report.figures.learning_curves import Run, learning_curves
from hvax.report.figures.style import BLUE, ORANGE
from hvax.report.inputs import ReportInputs
from hvax.report.page import render_summary
from hvax.report.samples import samples
from hvax.report.scores import scores_of


def summary(report: ReportInputs, text: str) -> str:
    """`text`, the learning curves and samples from the prior, as a piece of HTML."""
    histories = (report.history, report.baseline_history)
    runs = [
        Run(score.name, color, history, score.evaluation)
        for score, color, history in zip(scores_of(report), (BLUE, ORANGE), histories, strict=False)
    ]
    drawn = samples(report, key=jax.random.key(0))
    pictures = [one for one in (learning_curves(runs), drawn.picture) if one is not None]
    return render_summary(text, pictures, drawn.image)
