"""A report's page: its sections in order, those on numbers and training spelt out here."""

import jax
from jaxtyping import PRNGKeyArray

from hvax import __version__
from hvax.evaluation.evaluate import ESS, K_HAT
from hvax.models.hvae import HVAE, plain_vae
from hvax.models.likelihood import Bernoulli
from hvax.models.standardize import StandardizedLikelihood
from hvax.report import curves, headline, numbers
from hvax.report.draw import spaced
from hvax.report.figure import BLUE, ORANGE
from hvax.report.flow_sections import flow_section, transitions
from hvax.report.latent_sections import latent_section
from hvax.report.page import Html, Section, element, joined, page, paragraph, pictures
from hvax.report.posterior_sections import posterior_section
from hvax.report.reconstruction_sections import reconstruction_section
from hvax.report.report import Report
from hvax.report.sample_sections import samples_section

# The words of the first table, each with what it means.
_GLOSSARY = {
    "Nats": "Natural logarithms of probabilities: one nat is a factor of e in likelihood.",
    "ELBO": "The mean of log w, a lower bound on log p(x). It falls short by how far the draws of "
    "z are from the true posterior.",
    "NLL": "Minus log p(x), estimated with many importance samples. Too few samples make it too "
    "high.",
    "Standard error": "How far the mean over these test points may be off that over all such data. "
    "Two models on the same points share most of it: their difference is usually surer than either "
    "number.",
    "Effective samples": "How many equally weighted samples the weighted ones are worth.",
    "k-hat": "The shape of the weights’ tail. Above 0.7 a few samples carry the estimate, and its "
    "error is not known.",
    "Divergent": "A trajectory whose energy jumped by more than 1000 nats in a step: the step size "
    "is too large for it.",
}


def report_html(report: Report, *, key: PRNGKeyArray) -> Html:
    """The whole page."""
    data, samples, latent, posterior, flow = jax.random.split(key, 5)
    sections = (
        _numbers_section(report),
        _training_section(report),
        reconstruction_section(report, key=data),
        samples_section(report, key=samples),
        latent_section(report, key=latent),
        posterior_section(report, key=posterior),
        flow_section(report, key=flow),
        _everything_section(report),
        _options_section(report),
    )
    made = (
        "Points, features, latent dimensions and steps are counted from 0, epochs from 1. "
        f"Written by hvax {__version__}. This page holds everything it shows and fetches nothing."
    )
    return page(report.title, _subtitle(report), [s for s in sections if s is not None], made)


def _subtitle(report: Report) -> str:
    parts = [f"Hamiltonian VAE, {transitions(report.model.flow)}"
             if isinstance(report.model, HVAE) else "Variational autoencoder"]  # fmt: skip
    parts.append(_counted(report.evaluation["latent_size"], "latent dimension"))
    parts += [_likelihood(report), _examples(report)]
    return ", ".join(parts)


# By class; a user's own is called by its name.
_LIKELIHOODS = {
    "FixedGaussian": "Gaussian",
    "LearnedGaussian": "Gaussian",
    "NegativeBinomial": "negative binomial",
    "Categorical": "categorical",
}


def _likelihood(report: Report) -> str:
    likelihood = plain_vae(report.model).decoder.likelihood
    units = ""
    if isinstance(likelihood, StandardizedLikelihood):
        likelihood, units = likelihood.inner, " of standardized features"
    name = type(likelihood).__name__
    return f"{_LIKELIHOODS.get(name, name)} likelihood{units}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _examples(report: Report) -> str:
    shape = report.test.x_shape
    if len(shape) == 1:
        return _counted(shape[0], "feature")
    return f"examples of shape {' × '.join(map(str, shape))}"


def _scores(report: Report) -> list[numbers.Score]:
    flow = str(report.options.get("flow", {}).get("flow", "hvae")).upper()
    name = flow if isinstance(report.model, HVAE) else "VAE"
    scores = [numbers.Score(name, "model", numbers.known(report.evaluation))]
    if report.baseline is not None:
        scores.append(numbers.Score("VAE", "baseline", numbers.known(report.baseline)))
    return scores


def _numbers_section(report: Report) -> Section:
    scores = _scores(report)
    references = {name: float(nll) for name, nll in report.references.items()}
    said = [*headline.warnings(scores), *headline.against(scores, references)]
    pieces = [
        element("p", headline.sentence(scores, report.difference), "lead"),
        *([] if report.failed is None else [paragraph(report.failed, "warning")]),
        *(element("p", warning, "warning") for warning in said),
    ]
    if _is_gray(report):
        pieces.append(
            paragraph(
                "These data have gray levels between 0 and 1 under a Bernoulli likelihood. The "
                "numbers are cross-entropies, no likelihoods of the data.",
                "warning",
            )
        )
    terms = joined(
        Html(f"<dt>{term}</dt><dd>{meaning}</dd>") for term, meaning in _GLOSSARY.items()
    )
    words = Html(f"<details><summary>What the words mean</summary><dl>{terms}</dl></details>")
    return Section(
        "numbers",
        "Results",
        joined([*pieces, headline.headline(scores, report.difference, references), words]),
    )


def _training_section(report: Report) -> Section | None:
    histories = (report.history, report.baseline_history)
    runs = [
        curves.Run(name, color, history, evaluation)
        for (name, _, evaluation), color, history in zip(
            _scores(report), (BLUE, ORANGE), histories, strict=False
        )
    ]
    found = [curves.learning_curves(runs), curves.bounds(runs)]
    if not any(found):
        return None
    return Section("training", "Training", pictures(found))


def _everything_section(report: Report) -> Section:
    note = paragraph(
        "By importance sampling, with the samples and at the points of the first rows. Weights are "
        f"sound where k-hat is at most {K_HAT} and at least {ESS:g} samples are effective.",
        "soft",
    )
    return Section(
        "all",
        "All numbers",
        joined([note, element("div", numbers.everything(_scores(report)), "dense")]),
    )


def _options_section(report: Report) -> Section | None:
    if not report.options and not report.data:
        return None
    tables = [
        piece
        for title, shown in (("Data, as prepared", report.data), ("Options", report.options))
        if shown
        for piece in (element("h3", Html(title)), element("div", numbers.options(shown), "dense"))
    ]
    return Section("options", "Configuration", joined(tables))


def _is_gray(report: Report) -> bool:
    if not isinstance(plain_vae(report.model).decoder.likelihood, Bernoulli):
        return False
    x = report.test[spaced(len(report.test), 100)]
    return bool(((x > 0) & (x < 1)).any())
