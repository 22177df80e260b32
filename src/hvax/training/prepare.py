"""Putting an untrained model's networks into the units of its training data.

The encoder then takes standardized numbers (log1p of counts), and a decoder network that returns
zeros is the model of independent features, so training starts at about the bound of that model.
"""

from typing import Any, TypeVar, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.checked_data import checked_data
from hvax.checks import check_kind, check_one_of
from hvax.data.examples import with_origin
from hvax.devices import model_rows_of
from hvax.models.decoder import Decoder
from hvax.models.draw_batch import draw_batch
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
from hvax.objectives import finite_or_zero_weight
from hvax.parameters import Fixed
from hvax.precision import origin_of_rows
from hvax.training.marginals import Marginals, as_prepared, marginals, smallest, spaced_rows
from hvax.training.units import TransformChoice, real_units

Model = TypeVar("Model", VAE, HVAE)

_MAX_MEAN = 3.0  # of well-scaled data: |mean| in standard deviations
_MAX_LOG_SCALE = 1.5  # of well-scaled data: |log(standard deviation)|, or |log(mean)| of counts
_MARGIN = 1.0  # nats per feature below independent features from which a model counts as untrained
_TRIAL_ROWS = 256  # examples on which that is tested
_RESOLUTION_ROWS = 20_000  # examples that are tested for features float32 cannot resolve


def prepare(model: Model, data: Any, *, transform: TransformChoice = "auto") -> Model:
    """Put the networks of an untrained model into the units of its training data.

    - Real features are standardized inside the model, whose density stays one of the raw data.
      Heavy-tailed features are transformed by log or asinh if that raises their marginal
      likelihood.
    - Encoders of counts take log1p of them.
    - The decoder starts at the data's marginals: means, log rates, logits, dispersions.
    - Features that float32 cannot resolve (POSIX seconds, say) get their mean subtracted in float64
      first, as `VAE.origin`.

    `fit` does this by itself for an untrained model if the data are badly scaled for it. The model
    is returned unchanged if it is prepared already or has a user's own likelihood.

    **Arguments:**

    - `model`: an untrained `VAE` or `HVAE`.
    - `data`: as in `fit`: an array with the batch axis first, a pair (x, target), or a `Batch`.
    - `transform`: "auto", or "none", "log" or "asinh" for every feature; for a `LearnedGaussian`.

    Raises `TypeError` for another model, and `ValueError` for another `transform` and for data
    outside the likelihood's support.
    """
    check_kind(model, "model", VAE, HVAE)
    check_one_of(transform, "transform", get_args(TransformChoice))
    vae = model.vae if isinstance(model, HVAE) else model
    parts = checked_data(model, data, "data")
    if is_prepared(vae):
        return model
    vae, parts = with_data_origin(vae, parts)
    found = marginals(vae.decoder.likelihood, spaced_rows(parts), transform=transform)
    if found is None:
        return model
    inputs = None if parts.target is None else spaced_rows(Batch(parts.x, mask=parts.mask))
    return _with_vae(model, prepared_vae(vae, found, spaced_rows(parts), inputs))


def prepared_vae(
    vae: VAE, found: Marginals, x: NDArray[Any], x_in: NDArray[Any] | None = None
) -> VAE:
    """A VAE in the units of `found`, which were estimated on rows `x`.

    `x_in` are the rows of the encoder, if it takes other data than are scored.
    """
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
    """A VAE with the origin that its data require, if any, and the data with it subtracted."""
    real = isinstance(vae.decoder.likelihood, LearnedGaussian | FixedGaussian)
    if not real or vae.origin is not None:
        return vae, parts
    vae = VAE(
        vae.encoder, vae.decoder, vae.prior, origin_of_rows(spaced_rows(parts, _RESOLUTION_ROWS))
    )
    return vae, with_origin(parts, origin_of(vae))


def is_prepared(model: AbstractLatentModel) -> bool:
    """Whether a model's networks are in the units of its data already (see `prepare`)."""
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
    """Prepare the model if the data are badly scaled for it and it is untrained.

    Returns the model, and the marginals it was prepared with (None if it is unchanged).
    """
    # A model counts as untrained if its ELBO on some examples is more than a nat per feature below
    # independent features. So training of a model, prepared or not, can be continued.
    if not isinstance(model, VAE | HVAE):  # a user's own model, whose parts are unknown
        return model, None
    vae = model.vae if isinstance(model, HVAE) else model
    if is_prepared(vae) or not isinstance(
        vae.decoder.likelihood, LearnedGaussian | FixedGaussian | Poisson | NegativeBinomial
    ):
        return model, None
    x = spaced_rows(parts)
    if not _is_badly_scaled(vae.decoder.likelihood, x):
        return model, None
    elbo = _elbo(vae, _trial_batch(parts), key)
    vae, parts = with_data_origin(vae, parts)
    x = spaced_rows(parts)
    others = [with_origin(held_out, origin_of(vae))] if held_out is not None else []
    found = marginals(vae.decoder.likelihood, x, least=smallest(parts, *others))
    assert found is not None
    reference = float(np.mean(found.log_prob(spaced_rows(parts, _TRIAL_ROWS))))
    if elbo >= reference - _MARGIN * x[0].size:
        return model, None
    inputs = None if parts.target is None else spaced_rows(Batch(parts.x, mask=parts.mask))
    return _with_vae(model, prepared_vae(vae, found, x, inputs)), found


@np.errstate(over="ignore")
def is_trained(vae: VAE, parts: Batch) -> bool:
    """Whether a VAE is trained on such data: its ELBO is above the score of independent features.

    False for a user's own likelihood, for which no such reference is known.
    """
    likelihood, x = vae.decoder.likelihood, spaced_rows(parts)
    found = as_prepared(likelihood, x)
    if found is None:
        return False
    elbo = _elbo(vae, _trial_batch(parts), jax.random.key(0))
    return elbo > float(np.mean(found.log_prob(spaced_rows(parts, _TRIAL_ROWS))))


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
        if np.nanmin(counts) < 0:
            return vae.encoder
        units = real_units(np.log1p(counts), "none")
        ones = np.ones(counts.shape[1:])
        log1p = Transform("log1p", 0 * ones, ones)
        return StandardizedInput(vae.encoder, Fixed(units.shift), Fixed(units.scale), log1p)
    if found.units is not None:
        units = real_units(inputs, "none")
        return StandardizedInput(vae.encoder, Fixed(units.shift), Fixed(units.scale))
    return vae.encoder


def _is_badly_scaled(likelihood: AbstractLikelihood, x: NDArray[Any]) -> bool:
    """Whether data are far from mean 0 and scale 1, where untrained networks start."""
    x = np.asarray(x, np.float64)
    if isinstance(likelihood, Poisson | NegativeBinomial):
        return bool(np.any(np.abs(np.log(np.nanmean(x, axis=0) + 0.1)) > _MAX_LOG_SCALE))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        sd = np.nanstd(x, axis=0)
        far = np.abs(np.nanmean(x, axis=0)) > _MAX_MEAN * np.maximum(sd, 1.0)
        return bool(np.any(far | (np.abs(np.log(sd)) > _MAX_LOG_SCALE)))


@eqx.filter_jit
def _log_weights(vae: VAE, batch: Batch, key: PRNGKeyArray) -> Array:
    return draw_batch(vae, batch, key=key).log_weight


def _trial_batch(parts: Batch) -> Batch:
    """A few rows of each part, on the device."""
    n = len(parts.x)
    some = np.unique(np.linspace(0, n - 1, min(_TRIAL_ROWS, n)).astype(np.int64))
    return model_rows_of(parts, some)


def _elbo(vae: VAE, batch: Batch, key: PRNGKeyArray) -> float:
    return float(jnp.mean(finite_or_zero_weight(_log_weights(vae, batch, key))))


def _with_vae(model: VAE | HVAE, vae: VAE) -> Any:
    return eqx.tree_at(lambda m: m.vae, model, vae) if isinstance(model, HVAE) else vae
