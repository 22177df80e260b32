"""The Hamiltonian variational autoencoder: a VAE with a flow after its encoder."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from hvax.checks import check_callable, check_kind
from hvax.hamiltonian.abstract_flow import AbstractFlow
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import Potential
from hvax.models.data_point import Data, Mask
from hvax.models.decoder import Decoder
from hvax.models.latent_model import AbstractLatentModel, Draw
from hvax.models.posterior import Posterior
from hvax.models.prior import AbstractPrior
from hvax.models.vae import VAE
from hvax.parameters import Fixed


class HVAE(AbstractLatentModel):
    """A VAE with a flow between encoder and decoder.

    z_0 ~ q(z | x) is moved by `flow`, which follows U(x, z) = -log p(x | z) - log p(z), to z_K,
    which is decoded. E[exp(log w)] = p(x) holds for every flow.

    **Arguments:**

    - `vae`: a `VAE`.
    - `flow`: a `HamiltonianFlow` or another `AbstractFlow`; by default `HamiltonianFlow.dais(4)`.
    - `potential`: replaces U in the flow only, not in log w: a callable `potential(vae, x)` that
      returns a function z -> U or z -> (U, aux), such as `SmoothedPotential()` for a relu decoder.
      With a condition it is called as `potential(vae, x, condition)`, with missing values as
      `potential(vae, x, condition, mask)`.

    Raises `TypeError` for parts of the wrong type.

    Caterini, Doucet and Sejdinovic, "Hamiltonian Variational Auto-Encoder", NeurIPS 2018.
    """

    vae: VAE
    flow: AbstractFlow
    potential_for_flow: Callable[..., Potential] | None

    def __init__(
        self,
        vae: VAE,
        flow: AbstractFlow | None = None,
        potential: Callable[..., Potential] | None = None,
    ):
        check_kind(vae, "vae", VAE)
        if flow is not None:
            check_kind(flow, "flow", AbstractFlow)
        if potential is not None:
            check_callable(potential, "potential")
        self.vae = vae
        self.flow = HamiltonianFlow.dais(4) if flow is None else flow
        self.potential_for_flow = potential

    @property
    def encoder(self) -> Callable[..., Posterior]:
        """The encoder of the VAE."""
        return self.vae.encoder

    @property  # type: ignore[misc]
    def decoder(self) -> Decoder:  # type: ignore[override]
        """The decoder of the VAE."""
        return self.vae.decoder

    @property  # type: ignore[misc]
    def prior(self) -> AbstractPrior:  # type: ignore[override]
        """The prior of the VAE."""
        return self.vae.prior

    @property
    def origin(self) -> Fixed | None:
        """The origin of the VAE."""
        return self.vae.origin

    def check_condition(self) -> None:
        """Raise `ValueError` unless the VAE's networks take one."""
        self.vae.check_condition()

    @property
    def latent_size(self) -> int:
        """The dimension of z, inferred from the networks; `ValueError` if it cannot be inferred."""
        return self.vae.latent_size

    def posterior(self, x: Data, condition: Any = None, mask: Mask = None) -> Posterior:
        """q(z_0 | x), the density that the flow starts from."""
        return self.vae.posterior(x, condition, mask)

    def draw(
        self,
        posterior: Posterior,
        target: Data,
        condition: Any = None,
        mask: Mask = None,
        *,
        key: PRNGKeyArray,
    ) -> Draw:
        """One draw z_0 ~ q(z_0 | x), moved by the flow to z_K, with

        log w = log p(target, z_K) - log q(z_0 | x) + log_ratio,   in nats

        where log_ratio is the flow's own term (of momenta and their refreshments).
        """
        z_key, flow_key = jax.random.split(key)
        z, log_posterior = posterior.sample_and_log_prob(key=z_key)
        followed = self.followed(target, condition, mask)
        end = self.flow(followed, z, key=flow_key, start=posterior)
        # The flow evaluates its potential at z_K last. If that is the model's own potential, its
        # aux is the joint density at z_K, and the decoder need not run again.
        own = self.potential_for_flow is None
        joint = end.aux if own else self.vae.log_joint(target, end.z, condition, mask)
        log_weight = joint.log_likelihood + joint.log_prior - log_posterior + end.log_ratio
        return Draw(
            posterior=posterior,
            output=joint.output,
            z_init=z,
            z=end.z,
            log_weight=log_weight,
            log_likelihood=joint.log_likelihood,
            log_prior=joint.log_prior,
            log_posterior=log_posterior,
            trajectory=end.trajectory,
        )

    def followed(self, x: Data, condition: Any = None, mask: Mask = None) -> Potential:
        """The potential that the flow follows: U, or `potential` where one was given."""
        if self.potential_for_flow is None:
            return self.vae.potential(x, condition, mask)
        if mask is not None:
            return self.potential_for_flow(self.vae, x, condition, mask)
        given = () if condition is None else (condition,)
        return self.potential_for_flow(self.vae, x, *given)


def without_flow(model: AbstractLatentModel) -> AbstractLatentModel:
    """The VAE inside an HVAE; any other model unchanged."""
    return model.vae if isinstance(model, HVAE) else model


def has_flow(model: AbstractLatentModel) -> bool:
    """Whether a model is an HVAE whose flow has at least one step."""
    return isinstance(model, HVAE) and model.flow.num_gradients > 0


PLAIN_SHARE = 1e-8
"""The share of the VAE's weight in a guarded weight: log(1e-8) = -18.4 nats."""


def guarded_log_weight(
    model: AbstractLatentModel,
    draw: Draw,
    target: Data,
    condition: Any = None,
    mask: Any = None,
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """log((1 - a) w + a w_0) in nats, and whether w_0 dominates it: the trajectory ran away.

    w_0 = p(x, z_0) / q(z_0 | x) is the plain VAE's weight of the flow's start z_0, and a = 1e-8.
    Both weights have expectation p(x), so the mixture has it too, and the mean of its logarithm is
    still a lower bound. But a single trajectory that ends far from the data, with log w = -1e9 say,
    costs 18.4 nats below log w_0 instead of ruining a mean over a million draws.

    A log w that is not finite is returned unchanged: such draws are counted as failed. Without a
    flow the result is log w.
    """
    log_w = draw.log_weight
    if not has_flow(model):
        return log_w, jnp.zeros((), bool)
    joint = model.log_joint(target, draw.z_init, condition, mask)
    log_w_0 = joint.log_likelihood + joint.log_prior - draw.log_posterior
    least = jnp.where(jnp.isfinite(log_w_0), log_w_0 + math.log(PLAIN_SHARE), -jnp.inf)
    mixed = jnp.logaddexp(math.log1p(-PLAIN_SHARE) + log_w, least)
    finite = jnp.isfinite(log_w)
    return jnp.where(finite, mixed, log_w), finite & (log_w < least)
