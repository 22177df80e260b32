"""The contents of a page: the numbers and words of every section, without any HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jaxtyping import PRNGKeyArray

from hvax import __version__
from hvax.evaluation.evaluate import ESS, K_HAT
from hvax.hamiltonian.phase_space import DIVERGENT
from hvax.report.figures.bounds import bounds
from hvax.report.figures.learning_curves import Run, learning_curves
from hvax.report.figures.style import BLUE, ORANGE
from hvax.report.flow import Flow, flow
from hvax.report.full_tables import everything, options
from hvax.report.inputs import ReportInputs
from hvax.report.latent import latent
from hvax.report.model_view import kind_of, likelihood_words
from hvax.report.parts import Picture, Table
from hvax.report.posteriors import Posteriors, posteriors
from hvax.report.reconstructions import Reconstructions, reconstructions
from hvax.report.results import Results, results
from hvax.report.samples import Samples, samples
from hvax.report.scores import scores_of
from hvax.wording import counted


@dataclass(frozen=True)
class Contents:
    """All that a page says, section by section; None, or nothing, where a section is left out."""

    title: str
    subtitle: str
    results: Results
    training: Sequence[Picture]
    reconstructions: Reconstructions
    samples: Samples
    latent: Picture | None
    posteriors: Posteriors | None
    flow: Flow | None
    all_numbers: Table
    prepared: Table | None  # how the data were prepared
    options: Table | None
    # The limits that the words of the page name, and the version that wrote it.
    k_hat: float = K_HAT
    ess: float = ESS
    divergent: float = DIVERGENT
    version: str = __version__


def contents(report: ReportInputs, *, key: PRNGKeyArray) -> Contents:
    """The numbers, words and pictures of a page; what is random in them comes from `key`."""
    data, prior, latent_space, posterior, moved = jax.random.split(key, 5)
    return Contents(
        title=report.title,
        subtitle=_subtitle(report),
        results=results(report),
        training=_training(report),
        reconstructions=reconstructions(report, key=data),
        samples=samples(report, key=prior),
        latent=latent(report, key=latent_space),
        posteriors=posteriors(report, key=posterior),
        flow=flow(report, key=moved),
        all_numbers=everything(scores_of(report)),
        prepared=options("How the data were prepared", report.data) if report.data else None,
        options=options("The options of the run", report.options) if report.options else None,
    )


def _subtitle(report: ReportInputs) -> str:
    """What the model is, and of what data."""
    shape = report.test.x_shape
    if len(shape) == 1:
        data = counted(shape[0], "feature")
    else:
        data = f"examples of shape {' × '.join(map(str, shape))}"
    latent_size = counted(report.latent_size, "latent dimension")
    return ", ".join((kind_of(report.model), latent_size, likelihood_words(report.model), data))


def _training(report: ReportInputs) -> list[Picture]:
    histories = (report.history, report.baseline_history)
    runs = [
        Run(score.name, color, history, score.evaluation)
        for score, color, history in zip(scores_of(report), (BLUE, ORANGE), histories, strict=False)
    ]
    return [one for one in (learning_curves(runs), bounds(runs)) if one is not None]
