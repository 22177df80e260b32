"""The variational autoencoder: encoder + decoder + prior."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from hvax.checks import check_callable, check_kind, real_array, unsupported_layers
from hvax.models.data_point import Data, Mask, ShapeMismatch, batch_advice, filled
from hvax.models.decoder import Decoder
from hvax.models.inputs import call_network, innermost_name, takes_condition
from hvax.models.latent_model import AbstractLatentModel, Draw
from hvax.models.latent_size import find_latent_size
from hvax.models.posterior import Posterior
from hvax.models.prior import AbstractPrior, StandardNormal
from hvax.parameters import Fixed
from hvax.precision import split_float64


class VAE(AbstractLatentModel):
    """p(z) p(x | z) with the approximate posterior q(z | x).

    **Arguments:**

    - `encoder`: x -> posterior; `JointGaussian` or any callable that returns a `DiagonalGaussian`
      or your own `Posterior` over one latent vector. With a condition it is called as
      `encoder(x, condition)`. An encoder with a parameter `mask` is given it where values are
      missing; to any encoder such values are 0.
    - `decoder`: a `Decoder`.
    - `prior`: `StandardNormal()` by default.
    - `origin`: a constant of x's shape, for data that float32 cannot resolve: the model is then
      one of x - origin. Functions of data sets (`fit`, `evaluate`, `encode`, ...) subtract and add
      it in float64; the methods of this class take and return x - origin. `fit` and `prepare`
      choose it when it is needed.

    Raises `TypeError` for an encoder that is not callable and for other parts of the wrong type.

    Kingma and Welling, "Auto-Encoding Variational Bayes" (2014).
    """

    encoder: Callable[..., Posterior]
    decoder: Decoder
    prior: AbstractPrior
    origin: Fixed | None = None

    def __init__(
        self,
        encoder: Callable[..., Posterior],
        decoder: Decoder,
        prior: AbstractPrior | None = None,
        origin: ArrayLike | Fixed | None = None,
    ):
        check_callable(encoder, "encoder")
        check_kind(decoder, "decoder", Decoder)
        if prior is not None:
            check_kind(prior, "prior", AbstractPrior)
        self.encoder = encoder
        self.decoder = decoder
        self.prior = StandardNormal() if prior is None else prior
        if origin is None or isinstance(origin, Fixed):
            self.origin = origin
        else:
            self.origin = Fixed(split_float64(np.asarray(origin, np.float64)))

    def check_condition(self) -> None:
        """Raise `ValueError` unless both networks take one: else it is no p(x | condition)."""
        for what, network in (("encoder", self.encoder), ("decoder", self.decoder.network)):
            if not takes_condition(network):
                raise ValueError(
                    f"the batch must have no condition for a VAE whose {what} takes none, got "
                    f"{what} {innermost_name(network)}. Leave condition out, or take networks that "
                    "are called as encoder(x, condition) and decoder(z, condition)."
                )

    @property
    def latent_size(self) -> int:
        """The dimension of z, inferred from the networks; `ValueError` if it cannot be inferred."""
        return find_latent_size(self)

    def posterior(self, x: Data, condition: Any = None, mask: Mask = None) -> Posterior:
        """The approximate posterior q(z | x) of one example x, of what the mask shows of it.

        Raises `ValueError` for a batch, for an x of another shape than the encoder takes, and for a
        posterior that is not over one vector (d,).
        """
        x = filled(real_array(x, "x"), mask)
        try:
            posterior = call_network(self.encoder, x, condition, mask)
        except (TypeError, ValueError, RuntimeError) as error:
            # The networks' own errors are replaced by advice only where the cause is certain.
            if (asked := unsupported_layers(self.encoder)) is not None:
                raise TypeError(asked) from error
            if condition is None and _accepts(self.encoder, x):
                raise ValueError(
                    f"x must be one example, got a batch of shape {x.shape}. {batch_advice()}"
                ) from error
            if isinstance(error, ShapeMismatch):
                raise ValueError(f"x does not suit the encoder: {error}") from error
            raise
        mean = getattr(posterior, "mean", None)
        if isinstance(mean, jax.Array) and mean.ndim != 1:
            raise ValueError(
                "encoder must return a posterior over one latent vector (d,), got a mean of "
                f"shape {mean.shape} for x of shape {x.shape}. {batch_advice()}"
            )
        return posterior

    def draw(
        self,
        posterior: Posterior,
        target: Data,
        condition: Any = None,
        mask: Mask = None,
        *,
        key: PRNGKeyArray,
    ) -> Draw:
        """One draw z ~ q(z | x), with log w = log p(target, z) - log q(z | x) in nats."""
        z_key, _ = jax.random.split(
            key
        )  # as in an HVAE, so that both draw the same z_0 for one key
        z, log_posterior = posterior.sample_and_log_prob(key=z_key)
        joint = self.log_joint(target, z, condition, mask)
        return Draw(
            posterior=posterior,
            output=joint.output,
            z_init=z,
            z=z,
            log_weight=joint.log_likelihood + joint.log_prior - log_posterior,
            log_likelihood=joint.log_likelihood,
            log_prior=joint.log_prior,
            log_posterior=log_posterior,
        )


def _accepts(encoder: Callable, x: Array) -> bool:
    """Whether the encoder accepts one row of x (tested on shapes; nothing is computed)."""
    if x.ndim == 0:
        return False
    try:
        jax.eval_shape(lambda row: encoder(row), jnp.empty(x.shape[1:], x.dtype))
    except Exception:
        return False
    return True
