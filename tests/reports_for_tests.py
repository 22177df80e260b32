"""Small runs of every kind to report on, and what holds of every page that is written."""

import base64
import dataclasses
import functools
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np

from hvax.data.examples import Examples
from hvax.data.source import load_source
from hvax.evaluation.evaluate import difference, evaluate
from hvax.evaluation.table import as_json
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.tempering import FreeTempering, QuadraticTempering
from hvax.models.hvae import HVAE, without_flow
from hvax.models.likelihood import (
    Bernoulli,
    Categorical,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
)
from hvax.models.network import mlp
from hvax.models.standardize import standardized
from hvax.models.vae import VAE
from hvax.parameters import Learned
from hvax.report.inputs import ReportInputs
from hvax.training.fit import fit

VOID = {"meta", "img", "source", "br", "link", "input", "hr", "wbr"}
OPTIONS = {"source": "digits", "run_dir": None, "model": {"hidden": [16], "latent_size": 2}}


def vae(x_shape: tuple[int, ...], likelihood, latent_size: int) -> VAE:
    key = jax.random.key(0)
    return VAE(*mlp(x_shape, latent_size, hidden=(8,), likelihood=likelihood, key=key))


# The numbers of an evaluation, as evaluate and as_json would give them; tiny_run has real ones.
NUMBERS = {
    "num_points": 6, "num_samples": 10, "elbo": -9.5, "elbo_se": 0.4, "nll": 9.0, "nll_se": 0.4,
    "nll_mc_se": 0.01, "nll_bias": 0.002, "bounds": {"1": -9.5, "10": -9.0}, "ess_median": 7.0,
    "ess_5": 3.0, "untrusted": 0.5, "kl": 2.0, "active_units": 1, "reconstruction_nll": 8.0,
    "reconstruction_rmse": 0.3, "non_finite": 0, "trusted": False, "distance": 0.0,
    "energy_error": 0.0, "divergent": 0.0, "step_size": None, "beta": None,
}  # fmt: skip


def scored(model, x, **more) -> ReportInputs:
    """A report on a model that nobody trained."""
    vae = without_flow(model)
    size = vae.posterior(jnp.asarray(x[0])).mean.shape[0]
    flow = {} if model is vae else {"step_size": 0.1, "beta": [0.5, 1.0], "distance": 0.5}
    evaluation = {**NUMBERS, "latent_size": size, **flow}
    return ReportInputs(
        title="untrained", model=model, test=Examples(x), evaluation=evaluation, **more
    )


@functools.cache
def tiny_run() -> ReportInputs:
    """Two epochs on some digits, a flow in two dimensions and the plain VAE beside it."""
    source = load_source("digits")
    bits = (source.x[:330] > 8).astype(np.float32)
    plain = vae((8, 8), Bernoulli(), 2)
    flow = HamiltonianFlow(3, Learned(np.full(2, 0.2), upper=0.5), QuadraticTempering(0.3))
    fields, scored = {}, {}
    for name, model in (("baseline", plain), ("model", HVAE(plain, flow))):
        fitted = fit(model, bits[:200], validation=bits[200:250], epochs=2, progress=False)
        scores = evaluate(
            fitted.model, bits[250:], key=jax.random.key(0), num_samples=20, progress=False
        )
        run = {"ended": fitted.ended, "epochs": 2, "best_epoch": fitted.best_epoch,
               "seconds_training": fitted.seconds_training}  # fmt: skip
        fields[name], scored[name] = (fitted, as_json(scores) | run), scores
    return ReportInputs(
        title="digits-hvae",
        model=fields["model"][0].model,
        test=Examples(bits[250:]),
        labels=source.labels[250:330],
        evaluation=fields["model"][1],
        history=fields["model"][0].history,
        baseline=fields["baseline"][1],
        baseline_history=fields["baseline"][0].history,
        difference=difference(scored["model"], scored["baseline"]),
        options=OPTIONS,
    )


def vectors() -> ReportInputs:
    """Five latent dimensions, twelve kinds of label, a step size per step and dimension."""
    x = np.random.default_rng(0).normal(size=(60, 15)).astype(np.float32)
    x[:, 3] = x[:, 3] > 0
    flow = HamiltonianFlow(2, Learned(np.full((2, 5), 0.1), upper=0.5), FreeTempering(2))
    labels = np.array([f"kind {i % 12}" for i in range(60)])
    return scored(HVAE(vae((15,), LearnedGaussian(), 5), flow), x, labels=labels)


def counts() -> ReportInputs:
    """A plain VAE with one latent dimension."""
    x = np.random.default_rng(1).poisson(3.0, size=(40, 4))
    return scored(vae((4,), Poisson(), 1), x)


def long_counts() -> ReportInputs:
    """Counts as of molecules in cells: mostly few, some in the hundreds."""
    draw = np.random.default_rng(1)
    x = draw.poisson(draw.gamma(0.3, 30.0, size=(40, 4)))
    return scored(vae((4,), NegativeBinomial(), 2), x)


def classes() -> ReportInputs:
    """Vectors of integer classes, and a flow of no steps."""
    x = np.random.default_rng(2).integers(0, 3, (30, 5))
    return scored(HVAE(vae((5,), Categorical(3), 2), HamiltonianFlow(0)), x)


def images_of_classes() -> ReportInputs:
    x = np.eye(3, dtype=np.float32)[np.random.default_rng(2).integers(0, 3, (20, 6, 5))]
    return scored(vae((6, 5, 3), Categorical(3), 3), x)


def colors() -> ReportInputs:
    """Images with channels last, standardized so that they leave [0, 1]."""
    x = np.random.default_rng(3).normal(size=(20, 6, 5, 3)).astype(np.float32)
    return scored(HVAE(vae((6, 5, 3), FixedGaussian(1.0), 3), HamiltonianFlow(1)), x)


def channels_first() -> ReportInputs:
    """Three images of gray levels under a Bernoulli, with one channel first."""
    x = np.random.default_rng(3).uniform(size=(3, 1, 6, 5)).astype(np.float32)
    report = scored(vae((1, 6, 5), Bernoulli(), 2), x, labels=np.array([1, 1, 2]))
    return dataclasses.replace(report, evaluation={**report.evaluation, "gray": True})


def table() -> ReportInputs:
    """Named columns in units from 1e-9 to 1e9, one of them constant, with classes as strings,
    reference models, and a flow that was switched off."""
    rng = np.random.default_rng(4)
    z = rng.normal(size=(40, 2))
    units = np.array([1e9, 1e-9, 1.0, 1.0, 0.0])
    x = np.concatenate([z, np.exp(3 * z), np.ones((40, 1))], axis=1) * units + (units == 0) * 3.5
    names = ["pressure [Pa]", "a concentration that has a long name", "_mass", "$x$", "constant"]
    shift, scale = x.mean(axis=0), np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    plain = vae((5,), LearnedGaussian(), 2)
    plain = VAE(*standardized(plain.encoder, plain.decoder, shift=shift, scale=scale))
    return scored(
        HVAE(plain, HamiltonianFlow(0)),
        x.astype(np.float32),
        labels=np.where(z[:, 0] > 0, "benign", "malignant"),
        feature_names=names,
        references={"independent features": 8.5, "full-covariance Gaussian": 12.0},
        failed="The flow was switched off.",
        data={"likelihood": "LearnedGaussian", "notes": ["column 1 looks like a row number"]},
    )


def series() -> ReportInputs:
    """A few series of two named channels, whose labels are numbers."""
    rng = np.random.default_rng(5)
    x = np.cumsum(rng.normal(size=(12, 30, 2)), axis=1).astype(np.float32)
    flow = HamiltonianFlow(1, 0.1)
    return scored(
        HVAE(vae((30, 2), FixedGaussian(1.0), 3), flow),
        x,
        labels=np.linspace(0, 1, 12),
        feature_names=["left", "right"],
    )


def broken() -> ReportInputs:
    """A model that training has ruined, with its numbers as JSON keeps them: null for NaN."""
    x = np.random.default_rng(1).poisson(3.0, size=(40, 4))
    model = HVAE(vae((4,), Poisson(), 2), HamiltonianFlow(2, Learned(0.1, upper=0.5)))
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    ruined = eqx.combine(jax.tree.map(lambda a: a * jnp.nan, arrays), rest)
    report = scored(ruined, x)
    lost = ("elbo", "elbo_se", "nll", "nll_se", "nll_mc_se", "nll_bias", "distance")
    evaluation = {**report.evaluation, **dict.fromkeys(lost), "bounds": {"1": None, "10": None}}
    history = [{"epoch": 1, "elbo": None, "validation_elbo": None}]
    return ReportInputs(
        title="broken", model=ruined, test=report.test, evaluation=evaluation, history=history
    )


KINDS: dict[str, Callable[[], ReportInputs]] = {
    function.__name__: function
    for function in (
        tiny_run, vectors, counts, long_counts, classes, images_of_classes, colors, channels_first,
        table, series, broken,
    )
}  # fmt: skip


class Page(HTMLParser):
    """A page taken apart; raises where elements do not close in order."""

    def __init__(self, text: str):
        HTMLParser.__init__(self)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}  # by the element that they stand in
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"repeated attribute in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if self.open:
            self.words.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_page(text: str) -> Page:
    """What holds of every report: whole, described, and nothing that reaches outside."""
    page = Page(text)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "srcset", "href"):
            if name in attributes:
                assert re.match(r"data:image/|#[a-z]+$", attributes[name]), (tag, name)
    for link in page.all("a"):
        assert link["href"][1:] in ids
    for tag, attributes in page.tags:
        aria = {name for name in attributes if name.startswith("aria-")}
        assert aria <= {"aria-label", "aria-labelledby"}, f"no such attribute: {aria} of {tag}"
        assert attributes.get("aria-labelledby", ids[0]) in ids
    for section in page.all("section"):
        assert section["aria-labelledby"] == f"{section['id']}-title"
    (style,) = page.words["style"]
    assert "url(" not in style and "@import" not in style
    for attributes in page.all("img"):
        assert attributes["alt"].strip() and not re.search(r"\bnan\b", attributes["alt"])
        assert int(attributes["width"]) > 0 and int(attributes["height"]) > 0
        check_image(attributes["src"])
    for attributes in page.all("source"):
        check_image(attributes["srcset"])
    return page


def check_image(uri: str) -> None:
    """A data URI that decodes as the image it says it is."""
    kind, encoded = re.fullmatch(r"data:image/([a-z+]+);base64,([\w+/=]+)", uri).groups()
    content = base64.b64decode(encoded, validate=True)
    if kind == "png":
        assert matplotlib.image.imread(io.BytesIO(content), format="png").ndim == 3
        return
    assert kind == "svg+xml"
    root = ElementTree.fromstring(content)
    assert root.tag.endswith("svg")
    assert not re.search(rb"#0000[012]\d", content), "a stand-in was left"
    for element in root.iter():
        assert not element.tag.endswith("script")
        for name, value in element.attrib.items():
            if name.endswith("href"):
                assert value.startswith("#")
