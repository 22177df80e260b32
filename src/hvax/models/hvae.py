"""The Hamiltonian variational autoencoder: a VAE with a flow behind its encoder."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from hvax.checks import check_callable, check_key, check_kind, real_array
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import Potential
from hvax.hamiltonian.phase_space import PhaseSpace
from hvax.models.gaussian import HALF_LOG_TWO_PI
from hvax.models.likelihood import Data, ShapeMismatch
from hvax.models.posterior import Posterior
from hvax.models.vae import VAE, LogJoint

ONES = (1.0, 1.0, 1.0)
Prefactor = ArrayLike | Sequence[float]
"""Three numbers, one per term."""


class HVAEOutputs(NamedTuple):
    """What a forward pass of an HVAE computes for one example: the draw and its six densities."""

    encoder: Posterior  # q(z_init | x)
    decoder: PyTree  # the decoder's output at z_final
    phase_space: PhaseSpace
    log_likelihood: Float[Array, ""]  # log p(x | z_final), nats
    log_prior: Float[Array, ""]  # log p(z_final)
    log_posterior: Float[Array, ""]  # log q(z_init | x)

    @property
    def log_p_terms(self) -> Float[Array, " 3"]:
        """[log p(x | z_K), log p(z_K), log N(rho_K; 0, I / beta_K)]."""
        return self._terms()[0]

    @property
    def log_q_terms(self) -> Float[Array, " 3"]:
        """[log q(z_0 | x), log N(rho_0; 0, I / beta_0), -(d/2) log(beta_0 / beta_K)].

        Where momenta are refreshed, the second is that of all of them: less
        sum_k log N(rho_{k-1}; 0, I / beta_{k-1}) - log N(rho'_k; 0, I / beta_{k-1}).
        """
        return self._terms()[1]

    @property
    def log_weight(self) -> Float[Array, ""]:
        """log w = log p-bar - log q-bar, with E[exp(log w)] = p(x)."""
        return self.weighted(ONES, ONES)

    def weighted(self, logp_prefactor: Prefactor, logq_prefactor: Prefactor) -> Float[Array, ""]:
        """sum logp_prefactor * log_p_terms - sum logq_prefactor * log_q_terms.

        The normalizing constants of the six terms are gathered first, so that at ones they vanish
        exactly, and the gradient through log beta with them.
        """
        (p, q), (log_beta_0, log_beta_K) = self._kernels(), self._log_beta()
        a, b = jnp.asarray(logp_prefactor, p.dtype), jnp.asarray(logq_prefactor, p.dtype)
        half_d = 0.5 * self.phase_space.z_init.size
        constants = (a[2] - b[2]) * log_beta_K + (b[2] - b[1]) * log_beta_0
        constants = constants + (b[1] - a[2]) * 2 * HALF_LOG_TWO_PI
        return a @ p - b[:2] @ q + half_d * constants

    def _kernels(self) -> tuple[Float[Array, " 3"], Float[Array, " 2"]]:
        """The terms without the normalizing constants of the momenta's densities."""
        rho, gamma = self.phase_space.rho_final, self.phase_space.gamma
        kinetic = 0.5 * self.phase_space.beta[-1] * (rho @ rho)
        p = jnp.stack([self.log_likelihood, self.log_prior, -kinetic])
        momenta = -0.5 * (gamma @ gamma) - self.phase_space.log_refreshment
        return p, jnp.stack([self.log_posterior, momenta])

    def _log_beta(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return jnp.log(self.phase_space.beta[0]), jnp.log(self.phase_space.beta[-1])

    def _terms(self) -> tuple[Float[Array, " 3"], Float[Array, " 3"]]:
        (p, q), (log_beta_0, log_beta_K) = self._kernels(), self._log_beta()
        d = self.phase_space.z_init.size
        normal_0, normal_K = (
            d * (0.5 * log_beta - HALF_LOG_TWO_PI) for log_beta in (log_beta_0, log_beta_K)
        )
        log_p = p.at[2].add(normal_K)
        log_q = jnp.append(q.at[1].add(normal_0), -0.5 * d * (log_beta_0 - log_beta_K))
        return log_p, log_q


class HVAE(eqx.Module):
    """A VAE with a Hamiltonian flow between encoder and decoder.

    z_0 ~ q(z | x) is moved by `flow` on U(x, z) = -log p(x | z) - log p(z), and the end z_K is
    decoded. Its `log_weight` satisfies E[exp(log w)] = p(x) for every flow.

    **Arguments:**

    - `vae`: a `VAE`.
    - `flow`: a `HamiltonianFlow`; where None `HamiltonianFlow.dais(4)`, as in the program. The
      reference's own is `HamiltonianFlow()`.
    - `potential`: what the flow follows in place of the model's own U, as a callable
      `potential(vae, x) -> (z -> U)`, or z -> (U, aux), such as `SmoothedPotential()` where the
      decoder has relu. The weights score the model all the same.

    Caterini, Doucet and Sejdinovic, "Hamiltonian Variational Auto-Encoder", NeurIPS 2018.
    """

    vae: VAE
    flow: HamiltonianFlow
    potential: Callable[[VAE, Array], Potential] | None

    def __init__(
        self,
        vae: VAE,
        flow: HamiltonianFlow | None = None,
        potential: Callable[[VAE, Array], Potential] | None = None,
    ):
        check_kind(vae, "vae", VAE)
        if flow is not None:
            check_kind(flow, "flow", HamiltonianFlow)
        if potential is not None:
            check_callable(potential, "potential")
        self.vae = vae
        self.flow = HamiltonianFlow.dais(4) if flow is None else flow
        self.potential = potential

    def __call__(
        self,
        x: Data,
        x_out: Data | None = None,
        *,
        key: PRNGKeyArray,
        latent: bool = False,
    ) -> PyTree:
        """The decoder's output at z_K; with `latent=True` an `HVAEOutputs`.

        The encoder sees x; the flow and the likelihood see `x_out`, which is x where it is not
        given and the shapes agree (else `ValueError`).
        """
        check_key(key)
        x = real_array(x, "x")
        x_out = None if x_out is None else real_array(x_out, "x_out")
        posterior = self.vae.posterior(x)
        try:
            outputs = self.draw(posterior, x if x_out is None else x_out, key=key)
        except ShapeMismatch as error:
            if x_out is not None:
                raise ValueError(f"x_out does not suit the decoder: {error}") from error
            raise ValueError(
                f"{error} The flow follows p(x_out | z): give x_out, or without one use the plain "
                "VAE's forward pass, model.vae(x, key=key)."
            ) from error
        return outputs if latent else outputs.decoder

    def draw(self, posterior: Posterior, x: Data, *, key: PRNGKeyArray) -> HVAEOutputs:
        """One draw of the flow from a posterior at hand, scored at x: the encoder does not run."""
        z_key, rho_key = jax.random.split(key)
        z, log_posterior = posterior.sample_and_log_prob(key=z_key)
        phase_space, joint = self._flow(x, z, posterior, key=rho_key)
        return HVAEOutputs(
            encoder=posterior,
            decoder=joint.output,
            phase_space=phase_space,
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

    def _flow(
        self, x: Data, z: Float[Array, " d"], posterior: Posterior, *, key: PRNGKeyArray
    ) -> tuple[PhaseSpace, LogJoint]:
        if self.potential is None:
            # The flow's last evaluation is the model at z_K: the decoder does not run again.
            result = self.flow(self.vae.potential(x), z, key=key, start=posterior)
            return result.trajectory, result.aux
        result = self.flow(self.potential(self.vae, x), z, key=key, start=posterior)
        return result.trajectory, self.vae.log_joint(x, result.z)


PLAIN_SHARE = 1e-8
"""The share of the plain VAE's weight in a guarded one: a draw is at most 18.4 nats below it."""


def guarded_log_weight(
    model: "HVAE", outputs: HVAEOutputs, x: Data
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """log of (1 - a) w + a w_0, in nats, and whether the draw ran away: w < a w_0.

    w_0 = p(x, z_0) / q(z_0 | x) is the plain VAE's weight of the z_0 that the flow began at, and
    a = 1e-8. Both weights have the expectation p(x), so their mixture has it too, and every bound
    made of it is one. But one trajectory in a million that ends far from the data, with a log w of
    -1e9, then costs 18.4 nats and no more. A draw whose log w is not finite keeps it: it failed,
    which is counted.
    """
    log_w = outputs.log_weight
    joint = model.vae.log_joint(x, outputs.phase_space.z_init)
    log_w_0 = joint.log_likelihood + joint.log_prior - outputs.log_posterior
    least = jnp.where(jnp.isfinite(log_w_0), log_w_0 + math.log(PLAIN_SHARE), -jnp.inf)
    mixed = jnp.logaddexp(math.log1p(-PLAIN_SHARE) + log_w, least)
    finite = jnp.isfinite(log_w)
    return jnp.where(finite, mixed, log_w), finite & (log_w < least)


def log_p_bar(outputs: HVAEOutputs) -> Float[Array, ""]:
    """log p(x | z_K) + log p(z_K) + log N(rho_K; 0, I / beta_K), in nats, for one example."""
    check_kind(outputs, "outputs", HVAEOutputs)
    return jnp.sum(outputs.log_p_terms)


def log_q_bar(outputs: HVAEOutputs) -> Float[Array, ""]:
    """log q(z_0 | x) + log N(rho_0; 0, I / beta_0) - (d/2) log(beta_0 / beta_K), in nats."""
    check_kind(outputs, "outputs", HVAEOutputs)
    return jnp.sum(outputs.log_q_terms)


def reconstruct_one(
    model: VAE | HVAE,
    x: Data,
    x_out: Data | None = None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "..."]:
    """E[x | z] at one draw of the model's latent: pixels, rates or probabilities, not logits."""
    return plain_vae(model).decoder.likelihood.mean(model(x, x_out, key=key))


def plain_vae(model: VAE | HVAE) -> VAE:
    """The VAE inside a model, or the model itself."""
    check_kind(model, "model", VAE, HVAE)
    return model.vae if isinstance(model, HVAE) else model


def has_flow(model: VAE | HVAE) -> bool:
    """Whether a model's draws are moved behind its encoder."""
    return isinstance(model, HVAE) and model.flow.num_steps > 0
