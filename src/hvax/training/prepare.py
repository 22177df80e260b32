"""A model of networks that know nothing of their data yet -> one that starts at the data's units.

Encoders see standardized numbers (log1p of counts), and a decoder whose network gives zeros is the
model of independent features: before training the bound is about theirs.
"""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.checked_data import checked_data
from hvax.checks import check_kind
from hvax.data.examples import with_origin
from hvax.devices import place
from hvax.models.decoder import Decoder
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.hvae import HVAE
from hvax.models.latent_model import AbstractLatentModel
from hvax.models.likelihood import (
    AbstractLikelihood,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
)
from hvax.models.origin import origin_of
from hvax.models.standardize import (
    ScaledOutput,
    StandardizedInput,
    StandardizedLikelihood,
)
from hvax.models.transform import Transform
from hvax.models.vae import VAE
from hvax.objectives import draw_batch, finite_or_zero_weight
from hvax.parameters import Fixed
from hvax.precision import origin_of_rows
from hvax.training.marginals import (
    Marginals,
    TransformChoice,
    marginals,
    real_units,
    smallest,
    spaced_rows,
)

Model = TypeVar("Model", VAE, HVAE)

_FAR = 3.0  # standard deviations that a mean may be from 0
_FAR_SCALE = 1.5  # log units that a standard deviation, or a count's mean, may be from 1
_MARGIN = 1.0  # nats a feature that a model may be below independent features
_TRIED = 256  # examples that a model is tried on
_LOOKED_AT = 20_000  # examples by which features are known that float32 does not resolve


def prepare(model: Model, data: Any, *, transform: TransformChoice = "auto") -> Model:
    """The model with its networks in the units of training data.

    Real features are standardized inside (the density stays that of the raw data), heavy tails by a
    log or asinh of the feature where its marginal likelihood asks for it; encoders of counts see
    log1p; each decoder starts at the data's marginals: means, log rates, logits, dispersions. Real
    features that float32 does not resolve (POSIX seconds, say) have their mean taken off in float64
    first, as `VAE.origin`. `fit` does this by itself for an untrained model whose units are far
    from the data's.

    **Arguments:**

    - `model`: a `VAE` or `HVAE` that is not trained yet.
    - `data`: as in `fit`: an array with the batch axis first, a pair (x, target), or a `Batch`.
    - `transform`: "auto", or "none", "log" or "asinh" for every feature; for a `LearnedGaussian`.

    A likelihood of the user's own is left as it is, and so is a model that is prepared already.
    Raises `ValueError` for data outside the likelihood's support.
    """
    check_kind(model, "model", VAE, HVAE)
    vae = model.vae if isinstance(model, HVAE) else model
    parts = checked_data(model, data, "data")
    if is_prepared(vae):
        return model
    vae, parts = with_data_origin(vae, parts)
    found = marginals(vae.decoder.likelihood, spaced_rows(parts.scored), transform=transform)
    if found is None:
        return model
    inputs = None if parts.target is None else spaced_rows(parts.x)
    return _with_vae(model, prepared_vae(vae, found, spaced_rows(parts.scored), inputs))


def prepared_vae(
    vae: VAE, found: Marginals, x: NDArray[Any], x_in: NDArray[Any] | None = None
) -> VAE:
    """A VAE in the units that `found` says; `x` are its rows, `x_in` those of its encoder where
    they are others."""
    encoder = _prepared_encoder(vae, found, x, x_in)
    if isinstance(vae.decoder.likelihood, LearnedGaussian):
        assert isinstance(found.likelihood, StandardizedLikelihood)
        decoder = Decoder(vae.decoder.network, found.likelihood)
        return VAE(encoder, decoder, vae.prior, vae.origin)
    offset, gain = (
        tuple(Fixed(leaf) for leaf in jax.tree.leaves(tree)) for tree in (found.output, found.gain)
    )
    decoder = Decoder(ScaledOutput(vae.decoder.network, offset, gain), vae.decoder.likelihood)
    return VAE(encoder, decoder, vae.prior, vae.origin)


def with_data_origin(vae: VAE, parts: Batch) -> tuple[VAE, Batch]:
    """A VAE of real numbers with the origin that the data ask for, and the data less it."""
    real = isinstance(vae.decoder.likelihood, LearnedGaussian | FixedGaussian)
    if not real or vae.origin is not None:
        return vae, parts
    vae = VAE(vae.encoder, vae.decoder, vae.prior, origin_of_rows(parts.scored.spaced(_LOOKED_AT)))
    return vae, with_origin(parts, origin_of(vae))


def is_prepared(model: AbstractLatentModel) -> bool:
    return isinstance(model.decoder.likelihood, StandardizedLikelihood) or isinstance(
        model.decoder.network, ScaledOutput
    )


@np.errstate(over="ignore")
def prepared_if_needed(
    model: PyTree,
    parts: Batch,
    held_out: Batch | None = None,
    *,
    key: PRNGKeyArray,
) -> tuple[PyTree, Marginals | None]:
    """The model, prepared where its units are far from the data's and it has learned nothing.

    A model is known to be untrained by its bound on some examples: more than a nat a feature below
    that of independent features. So training can go on with a model, prepared or not.
    """
    if not isinstance(model, VAE | HVAE):  # a model of the user's own, whose parts nobody knows
        return model, None
    vae = model.vae if isinstance(model, HVAE) else model
    if is_prepared(vae) or not isinstance(
        vae.decoder.likelihood, LearnedGaussian | FixedGaussian | Poisson | NegativeBinomial
    ):
        return model, None
    x = spaced_rows(parts.scored)
    if not _is_badly_scaled(vae.decoder.likelihood, x):
        return model, None
    bound = _bound(vae, _some(parts), key)
    vae, parts = with_data_origin(vae, parts)
    x = spaced_rows(parts.scored)
    others = [with_origin(held_out, origin_of(vae)).scored] if held_out is not None else []
    found = marginals(vae.decoder.likelihood, x, least=smallest(parts.scored, *others))
    assert found is not None
    reference = float(np.mean(found.log_prob(spaced_rows(parts.scored, _TRIED))))
    if bound >= reference - _MARGIN * x[0].size:
        return model, None
    inputs = None if parts.target is None else spaced_rows(parts.x)
    return _with_vae(model, prepared_vae(vae, found, x, inputs)), found


@np.errstate(over="ignore")
def is_trained(vae: VAE, parts: Batch) -> bool:
    """Whether a VAE has been trained on such data: its bound on some of them is above the
    log-likelihood of independent features. False for a likelihood of the user's own."""
    likelihood, x = vae.decoder.likelihood, spaced_rows(parts.scored)
    found = as_prepared(likelihood, x)
    if found is None:
        return False
    bound = _bound(vae, _some(parts), jax.random.key(0))
    return bound > float(np.mean(found.log_prob(spaced_rows(parts.scored, _TRIED))))


def as_prepared(likelihood: AbstractLikelihood, x: NDArray[Any]) -> Marginals | None:
    """`marginals`, of a standardized likelihood in its own units."""
    if not isinstance(likelihood, StandardizedLikelihood):
        return marginals(likelihood, x)
    if not isinstance(likelihood.inner, LearnedGaussian):
        return None
    zeros = jnp.zeros(likelihood.shift.value.shape)
    return Marginals(likelihood, DiagonalGaussian(zeros, zeros), DiagonalGaussian(zeros, zeros))


def _prepared_encoder(
    vae: VAE, found: Marginals, x: NDArray[Any], x_in: NDArray[Any] | None
) -> Any:
    if found.units is not None and x_in is None:
        units = found.units
        return StandardizedInput(
            vae.encoder, Fixed(units.shift), Fixed(units.scale), units.transform
        )
    inputs = np.asarray(x if x_in is None else x_in)
    if isinstance(vae.decoder.likelihood, Poisson | NegativeBinomial):
        counts = np.asarray(inputs, np.float64)
        if counts.min() < 0:
            return vae.encoder
        units = real_units(np.log1p(counts), "none")
        ones = np.ones(counts.shape[1:])
        seen = Transform("log1p", 0 * ones, ones)
        return StandardizedInput(vae.encoder, Fixed(units.shift), Fixed(units.scale), seen)
    if found.units is not None:
        units = real_units(inputs, "none")
        return StandardizedInput(vae.encoder, Fixed(units.shift), Fixed(units.scale))
    return vae.encoder


def _is_badly_scaled(likelihood: AbstractLikelihood, x: NDArray[Any]) -> bool:
    """Whether networks that give numbers about 0 of size 1 are far from the data."""
    x = np.asarray(x, np.float64)
    if isinstance(likelihood, Poisson | NegativeBinomial):
        return bool(np.any(np.abs(np.log(x.mean(0) + 0.1)) > _FAR_SCALE))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        sd = x.std(0)
        far = np.abs(x.mean(0)) > _FAR * np.maximum(sd, 1.0)
        return bool(np.any(far | (np.abs(np.log(sd)) > _FAR_SCALE)))


@eqx.filter_jit
def _log_weights(vae: VAE, batch: Batch, key: PRNGKeyArray) -> Array:
    return draw_batch(vae, batch, key=key).log_weight


def _some(parts: Batch) -> Batch:
    """A few rows of each part, on the device."""
    return place(parts.map(lambda part: spaced_rows(part, _TRIED)))


def _bound(vae: VAE, batch: Batch, key: PRNGKeyArray) -> float:
    return float(jnp.mean(finite_or_zero_weight(_log_weights(vae, batch, key))))


def _with_vae(model: VAE | HVAE, vae: VAE) -> Any:
    return eqx.tree_at(lambda m: m.vae, model, vae) if isinstance(model, HVAE) else vae
