"""The Hamiltonian variational autoencoder: a VAE with a flow behind its encoder."""

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
from hvax.models.decoder import Decoder
from hvax.models.latent_model import AbstractLatentModel, Draw
from hvax.models.likelihood import Data
from hvax.models.posterior import Posterior
from hvax.models.prior import AbstractPrior
from hvax.models.vae import VAE
from hvax.parameters import Fixed


class HVAE(AbstractLatentModel):
    """A VAE with a flow between encoder and decoder.

    z_0 ~ q(z | x) is moved by `flow` on U(x, z) = -log p(x | z) - log p(z), and the end z_K is
    decoded. Its `log_weight` satisfies E[exp(log w)] = p(x) for every flow.

    **Arguments:**

    - `vae`: a `VAE`.
    - `flow`: a `HamiltonianFlow` or another `AbstractFlow`; where None `HamiltonianFlow.dais(4)`,
      as in the program.
    - `potential`: what the flow follows in place of the model's own U, as a callable
      `potential(vae, x) -> (z -> U)`, or z -> (U, aux), such as `SmoothedPotential()` where the
      decoder has relu. The weights score the model all the same. It is called as
      `potential(vae, x, condition)` where there is a condition.

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
        """The VAE's."""
        return self.vae.encoder

    @property  # type: ignore[misc]
    def decoder(self) -> Decoder:  # type: ignore[override]
        """The VAE's."""
        return self.vae.decoder

    @property  # type: ignore[misc]
    def prior(self) -> AbstractPrior:  # type: ignore[override]
        """The VAE's."""
        return self.vae.prior

    @property
    def origin(self) -> Fixed | None:
        """The VAE's."""
        return self.vae.origin

    @property
    def latent_size(self) -> int:
        """The dimension of z, told from the networks' shapes; `ValueError` where they do not."""
        return self.vae.latent_size

    def posterior(self, x: Data, condition: Any = None) -> Posterior:
        """q(z_0 | x): where the flow starts."""
        return self.vae.posterior(x, condition)

    def draw(
        self, posterior: Posterior, target: Data, condition: Any = None, *, key: PRNGKeyArray
    ) -> Draw:
        """One draw z_0 ~ q(z_0 | x), moved by the flow to z_K, with

        log w = log p(target, z_K) - log q(z_0 | x) + log_ratio

        where log_ratio is what the flow adds: of momenta and their refreshments.
        """
        z_key, flow_key = jax.random.split(key)
        z, log_posterior = posterior.sample_and_log_prob(key=z_key)
        if self.potential_for_flow is None:
            followed = self.vae.potential(target, condition)
        else:
            given = () if condition is None else (condition,)
            followed = self.potential_for_flow(self.vae, target, *given)
        end = self.flow(followed, z, key=flow_key, start=posterior)
        # The flow's last evaluation of its potential is the model at z_K: where that is the model's
        # own, the decoder does not run again.
        own = self.potential_for_flow is None
        joint = end.aux if own else self.vae.log_joint(target, end.z, condition)
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


def without_flow(model: AbstractLatentModel) -> AbstractLatentModel:
    """The VAE inside an HVAE, which draws from the posterior alone; another model as it is."""
    return model.vae if isinstance(model, HVAE) else model


def has_flow(model: AbstractLatentModel) -> bool:
    """Whether a model is an HVAE whose flow moves something."""
    return isinstance(model, HVAE) and model.flow.num_gradients > 0


PLAIN_SHARE = 1e-8
"""The share of the plain VAE's weight in a guarded one: a draw is at most 18.4 nats below it."""


def guarded_log_weight(
    model: AbstractLatentModel, draw: Draw, target: Data, condition: Any = None
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """log of (1 - a) w + a w_0, in nats, and whether the draw ran away: w < a w_0.

    w_0 = p(x, z_0) / q(z_0 | x) is the plain VAE's weight of the z_0 that the flow began at, and
    a = 1e-8. Both weights have the expectation p(x), so their mixture has it too, and every bound
    made of it is one. But one trajectory in a million that ends far from the data, with a log w of
    -1e9, then costs 18.4 nats and no more. A draw whose log w is not finite keeps it: it failed,
    which is counted. Without a flow it is log w.
    """
    log_w = draw.log_weight
    if not has_flow(model):
        return log_w, jnp.zeros((), bool)
    joint = model.log_joint(target, draw.z_init, condition)
    log_w_0 = joint.log_likelihood + joint.log_prior - draw.log_posterior
    least = jnp.where(jnp.isfinite(log_w_0), log_w_0 + math.log(PLAIN_SHARE), -jnp.inf)
    mixed = jnp.logaddexp(math.log1p(-PLAIN_SHARE) + log_w, least)
    finite = jnp.isfinite(log_w)
    return jnp.where(finite, mixed, log_w), finite & (log_w < least)
