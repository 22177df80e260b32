"""The decoder: a network z -> output, and the likelihood that the output parameterizes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hvax.checks import check_callable, check_kind, unsupported_layers
from hvax.models.data_point import Data, Mask, ShapeMismatch, check_shape
from hvax.models.likelihood import AbstractLikelihood


class Decoder(eqx.Module):
    """p(x | z): a likelihood whose parameters are `network(z)`.

    The network is any callable of one latent vector (d,); with a condition it is called as
    `network(z, condition)`. Raises `TypeError` for parts of the wrong type.
    """

    network: Callable[..., PyTree]
    likelihood: AbstractLikelihood

    def __check_init__(self) -> None:
        check_callable(self.network, "network")
        check_kind(self.likelihood, "likelihood", AbstractLikelihood)

    def __call__(self, z: Float[Array, " d"], condition: Any = None) -> PyTree:
        """The likelihood's parameters at one latent z."""
        try:
            return self.network(z) if condition is None else self.network(z, condition)
        except ShapeMismatch as error:
            raise ValueError(f"z does not suit the decoder: {error}") from error
        except (TypeError, RuntimeError) as error:
            if (asked := unsupported_layers(self.network)) is not None:
                raise TypeError(asked) from error
            raise

    def log_likelihood(self, x: Data, output: PyTree, mask: Mask = None) -> Float[Array, ""]:
        """log p(x | z) in nats of one example x (where `mask` is True), given the output at z.

        Raises `ValueError` for a batch, and for a likelihood that does not return one number.
        """
        # hvax's likelihoods check x themselves. A user's might broadcast a batch of x against one
        # output and return one sum over the batch, silently.
        one = jax.eval_shape(self.likelihood.mean, output).shape
        if jnp.shape(x)[1:] == one:
            check_shape(x, one)
        given = () if mask is None else (mask,)
        log_p = self.likelihood.log_prob(output, x, *given)
        if jnp.shape(log_p) != ():
            raise ValueError(
                f"{type(self.likelihood).__name__}.log_prob must return one number per example, "
                f"got shape {jnp.shape(log_p)}. Sum over the features."
            )
        return log_p
