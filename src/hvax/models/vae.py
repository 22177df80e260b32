"""The variational autoencoder: encoder + decoder + prior."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.checks import check_callable, check_key, check_kind, layers_that_ask, real_array
from hvax.hamiltonian.gradient import Potential
from hvax.models.decoder import Decoder
from hvax.models.likelihood import Data, ShapeMismatch, batch_advice
from hvax.models.posterior import Posterior
from hvax.models.prior import AbstractPrior, StandardNormal
from hvax.parameters import Fixed
from hvax.precision import in_two


class LogJoint(NamedTuple):
    """One evaluation of the model at z: the decoder's output and log p(x, z) in its two parts."""

    output: PyTree
    log_likelihood: Float[Array, ""]  # log p(x | z), nats
    log_prior: Float[Array, ""]  # log p(z), nats


class VAEOutputs(NamedTuple):
    """What a forward pass of a VAE computes for one example."""

    encoder: Posterior
    decoder: PyTree
    z: Float[Array, " d"]
    log_likelihood: Float[Array, ""]
    log_prior: Float[Array, ""]
    log_posterior: Float[Array, ""]  # log q(z | x)

    @property
    def log_weight(self) -> Float[Array, ""]:
        """log p(x, z) - log q(z | x)."""
        return self.log_likelihood + self.log_prior - self.log_posterior


class VAE(eqx.Module):
    """p(z) p(x | z) with the approximate posterior q(z | x).

    **Arguments:**

    - `encoder`: x -> posterior; `JointGaussian` or any callable that gives a `DiagonalGaussian`, or
      a `Posterior` of yours, over one latent vector.
    - `decoder`: a `Decoder`.
    - `prior`: `StandardNormal()` by default.
    - `origin`: of x's shape, where float32 does not resolve x itself: the model is one of
      x - origin. `fit`, `evaluate`, `encode` and all else that takes data sets takes it off in
      float64 and gives numbers of x; the methods of this class take, and decode to, x - origin.
      `fit` and `prepare` choose it where it is needed.

    Kingma and Welling, "Auto-Encoding Variational Bayes" (2014).
    """

    encoder: Callable[[Array], Posterior]
    decoder: Decoder
    prior: AbstractPrior
    origin: Fixed | None = None

    def __init__(
        self,
        encoder: Callable[[Array], Posterior],
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
            self.origin = Fixed(in_two(np.asarray(origin, np.float64)))

    def __call__(
        self,
        x: Data,
        x_out: Data | None = None,
        *,
        key: PRNGKeyArray,
        latent: bool = False,
    ) -> PyTree:
        """The decoder's output at one draw z ~ q(z | x); with `latent=True` a `VAEOutputs`.

        `x_out` (x itself by default) is what the likelihood scores; only `latent=True` needs it.
        """
        check_key(key)
        posterior = self.posterior(x)
        if not latent:
            z, _ = self._sample(posterior, key)
            return self.decoder(z)
        if x_out is None:
            return self.draw(posterior, real_array(x, "x"), key=key)
        try:
            return self.draw(posterior, real_array(x_out, "x_out"), key=key)
        except ShapeMismatch as error:
            raise ValueError(f"x_out does not suit the decoder: {error}") from error

    def draw(self, posterior: Posterior, x: Data, *, key: PRNGKeyArray) -> VAEOutputs:
        """One draw from a posterior at hand, scored at x: the encoder does not run."""
        z, log_posterior = self._sample(posterior, key)
        joint = self.log_joint(x, z)
        return VAEOutputs(
            encoder=posterior,
            decoder=joint.output,
            z=z,
            log_likelihood=joint.log_likelihood,
            log_prior=joint.log_prior,
            log_posterior=log_posterior,
        )

    def log_weight(
        self,
        x: Data,
        x_out: Data | None = None,
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """One draw of log w, in nats, with E[exp(log w)] = p(x_out)."""
        return self(x, x_out, key=key, latent=True).log_weight

    def posterior(self, x: Data) -> Posterior:
        """q(z | x), checked to be over one latent vector."""
        x = real_array(x, "x")
        try:
            posterior = self.encoder(x)
        except (TypeError, ValueError, RuntimeError) as error:
            if (asked := layers_that_ask(self.encoder)) is not None:
                raise TypeError(asked) from error
            if _accepts(self.encoder, x):
                raise ValueError(
                    f"x has a leading batch axis: {x.shape}. {batch_advice()}"
                ) from error
            if isinstance(error, ShapeMismatch):
                raise ValueError(f"x does not suit the encoder: {error}") from error
            raise
        mean = getattr(posterior, "mean", None)
        if isinstance(mean, jax.Array) and mean.ndim != 1:
            raise ValueError(
                "the encoder must give a posterior over one latent vector (d,), got a mean of "
                f"shape {mean.shape} for x of shape {x.shape}. {batch_advice()}"
            )
        return posterior

    def log_joint(self, x: Data, z: Float[Array, " d"]) -> LogJoint:
        """log p(x | z) and log p(z), with the decoder's output."""
        output = self.decoder(z)
        return LogJoint(output, self.decoder.log_likelihood(x, output), self.prior.log_prob(z))

    def potential(self, x: Data) -> Potential:
        """U(z) = -log p(x | z) - log p(z); the `LogJoint` at z comes with it."""

        def potential(z: Float[Array, " d"]) -> tuple[Float[Array, ""], LogJoint]:
            joint = self.log_joint(x, z)
            return -joint.log_likelihood - joint.log_prior, joint

        return potential

    def _sample(
        self, posterior: Posterior, key: PRNGKeyArray
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        z_key, _ = jax.random.split(key)  # the second half is an HVAE's momentum
        return posterior.sample_and_log_prob(key=z_key)


def _accepts(encoder: Callable, x: Array) -> bool:
    """Whether one row of x suits the encoder, tried on shapes alone."""
    if x.ndim == 0:
        return False
    try:
        jax.eval_shape(lambda row: encoder(row), jnp.empty(x.shape[1:], x.dtype))
    except Exception:
        return False
    return True
