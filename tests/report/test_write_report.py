"""`write_report`: a page from a model and an array, without a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import hvax
from hvax.batch import Batch
from hvax.hamiltonian.abstract_flow import AbstractFlow, FlowResult
from hvax.models.latent_model import AbstractLatentModel
from hvax.report.report import write_report
from laplace_posterior import LaplaceEncoder
from models_for_tests import linear_gaussian
from reports_for_tests import check_page

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
KEY = jax.random.key(0)
QUICK = {"num_samples": 20, "progress": False}


def sections(page):
    return {section["id"] for section in page.all("section")}


def read(path):
    text = path.read_text(encoding="utf-8")
    return text, check_page(text)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hvax.exceptions.UntrustedNLL")
def test_a_model_and_an_array_are_enough(tmp_path):
    """A flow trained by `fit`, and the plain VAE beside it; the same key gives the same file."""
    path, again = tmp_path / "flow.html", tmp_path / "again.html"
    networks = hvax.mlp((3,), 2, hidden=(8,), likelihood=hvax.LearnedGaussian(), key=KEY)
    plain = hvax.VAE(*networks)
    model = hvax.HVAE(plain, hvax.HamiltonianFlow(2, 0.1))
    fitted = hvax.fit(model, X[:40], validation=X[40:50], epochs=2, progress=False)
    write_report(fitted.model, X[50:], path, history=fitted.history, **QUICK)
    text, page = read(path)
    assert sections(page) == {
        "numbers", "training", "reconstructions", "samples", "latent", "posteriors", "flow", "all",
    }  # fmt: skip
    assert "".join(page.words["h1"]) == "flow" and "on 10 test points" in text
    assert any(image["alt"].startswith("Learning curves") for image in page.all("img"))
    write_report(fitted.model, X[50:], again, title="flow", history=fitted.history, **QUICK)
    assert again.read_bytes() == path.read_bytes()

    scores = [
        hvax.evaluate(one, X[50:], key=KEY, **QUICK) for one in (fitted.model, fitted.model.vae)
    ]
    write_report(
        fitted.model,
        pd.DataFrame(X[50:].astype(float), columns=["height", "weight", "age"]),
        path,
        labels=["a", "b"] * 5,
        evaluation=scores[0],
        baseline=scores[1],
    )
    text, page = read(path)
    assert "training" in sections(page), "the bounds are there without a history"
    assert not any(image["alt"].startswith("Learning curves") for image in page.all("img"))
    assert "point by point" in text and "labels a, b" in text and "height" in text
    assert f"{scores[0].nll:.2f} ±" in text.replace("−", "-")


def test_a_posterior_that_is_not_gaussian(tmp_path):
    """It gets no ellipse, and its gap comes from its own draws."""
    vae = linear_gaussian()
    other = hvax.VAE(LaplaceEncoder(jnp.zeros(2), jnp.ones(2)), vae.decoder)
    evaluation = hvax.evaluate(other, X[:20], key=KEY, **QUICK)
    write_report(other, X[:20], tmp_path / "a.html", evaluation=evaluation)
    text, page = read(tmp_path / "a.html")
    assert "posteriors" in sections(page) and "draws of the encoder." in text
    assert "ellipse" not in text and "falls short of it by" in text
    gaussian = hvax.evaluate(vae, X[:20], key=KEY, **QUICK)
    write_report(vae, X[:20], tmp_path / "b.html", evaluation=gaussian)
    assert "the ellipse that should hold 90% of them" in read(tmp_path / "b.html")[0]


class Shifted(AbstractFlow):
    """A flow of a user's own: every z goes the same way, which preserves volume."""

    shift: float = 0.1
    num_gradients: int = 1

    def __call__(self, potential, z, *, key, start=None):
        _, aux = potential(z + self.shift)
        return FlowResult(z + self.shift, jnp.zeros(()), aux, {"from": z})


class Wrapped(AbstractLatentModel):
    """A model of a user's own around another, with posterior and draw alone."""

    inner: AbstractLatentModel
    tells: bool

    @property
    def prior(self):
        return self.inner.prior

    @property
    def decoder(self):
        return self.inner.decoder

    @property
    def latent_size(self):
        return 2

    def posterior(self, x, condition=None):
        return self.inner.posterior(x)

    def draw(self, posterior, target, condition=None, *, key):
        draw = self.inner.draw(posterior, target, key=key)
        return draw if self.tells else draw._replace(trajectory=None)


@pytest.mark.parametrize(
    ("kind", "moved"), [("flow", True), ("model", True), ("model that does not tell", False)]
)
def test_what_is_the_users_own(kind, moved, tmp_path):
    """A flow or a model of another make is shown by its two ends; one stage where it has no way."""
    vae = linear_gaussian()
    flow = Shifted() if kind == "flow" else hvax.HamiltonianFlow(2, 0.1)
    model = hvax.HVAE(vae, flow)
    if kind != "flow":
        model = Wrapped(model, tells=moved)
    path = tmp_path / "own.html"
    write_report(model, Batch(X[:20]), path, num_samples=50, progress=False)
    text, page = read(path)
    assert ("flow" in sections(page)) == moved == ("after the flow" in text)
    name = "a flow by Shifted" if kind == "flow" else "Wrapped"
    assert name in "".join(page.words["p"])
    assert any(image["alt"].startswith("ELBO gained") for image in page.all("img")) == moved


@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        ((X, X), {}, "`data` must be one array of examples, got a pair"),
        (Batch(X, condition=X), {}, "must have no condition, got one"),
        (X, {"labels": [1, 2]}, "`labels` must be one per test example, got 2"),
        (X, {"feature_names": ["a"]}, "one per feature, 3"),
        (X, {"evaluation": {"nll": 1.0}}, "`evaluation` must hold the numbers of `hvax.evaluate`"),
    ],
)
def test_what_does_not_fit_is_refused(data, more, message, tmp_path):
    more = {"num_samples": 2, "progress": False} | more
    with pytest.raises(ValueError, match=message):
        write_report(linear_gaussian(), data, tmp_path / "report.html", **more)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_told_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="`path` must be in a folder that exists"):
        write_report(linear_gaussian(), X, tmp_path / "nowhere" / "report.html")
