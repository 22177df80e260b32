"""Batches of log-weights -> the numbers that are reported and the losses that are trained.

Every function takes a batch, batch axis first, and gives one number in nats: the mean over it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

from hvax.door import check_callable, check_key, count, real_array, real_number
from hvax.models.hvae import HVAE, ONES, HVAEOutputs, Prefactor, plain_vae
from hvax.models.prior import AbstractPrior, StandardNormal
from hvax.models.vae import VAE, VAEOutputs

Batch = Shaped[ArrayLike, "batch ..."]


def hamiltonian_elbo(
    model: VAE | HVAE,
    x: Batch,
    x_out: Batch | None = None,
    *,
    key: PRNGKeyArray,
    return_outputs: bool = False,
) -> Any:
    """The evidence lower bound: mean of log w over the batch, one draw each; <= log p(x_out).

    With `return_outputs=True` also the batched outputs of the forward pass. A draw whose log w is
    not finite makes it -inf. Caterini et al. (2018), equation 9.
    """
    outputs = forward(model, x, x_out, key=key)
    elbo = jnp.mean(finite_or_zero_weight(_log_weight(outputs)))
    return (elbo, outputs) if return_outputs else elbo


def importance_weighted_bound(
    model: VAE | HVAE,
    x: Batch,
    x_out: Batch | None = None,
    *,
    key: PRNGKeyArray,
    num_samples: int,
) -> Float[Array, ""]:
    """mean over the batch of log (1/S) sum_s w_s, S = `num_samples` draws each; <= log p(x_out).

    S = 1 is the ELBO, and in expectation it grows with S. A draw whose log w is not finite counts
    as w = 0. Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders" (2016).
    """
    num_samples = count(num_samples, "num_samples")
    check_key(key)
    draw = jax.vmap(lambda key: _log_weight(forward(model, x, x_out, key=key)))
    log_w = finite_or_zero_weight(draw(jax.random.split(key, num_samples)))
    return jnp.mean(jax.nn.logsumexp(log_w, axis=0) - jnp.log(num_samples))


def loss(
    model: HVAE,
    x: Batch,
    x_out: Batch | None = None,
    *,
    key: PRNGKeyArray,
    kl: Literal["sampled", "analytic"] = "sampled",
    reg_function: Callable[..., Array] | None = None,
    reg_kwargs: Mapping[str, Any] | None = None,
    reg_strength: ArrayLike = 1.0,
    logp_prefactor: Prefactor = ONES,
    logq_prefactor: Prefactor = ONES,
    return_outputs: bool = False,
) -> Any:
    """The HVAE's loss: -mean log w + reg_strength * reg_function(outputs, **reg_kwargs), in nats.

    `logp_prefactor` multiplies [log p(x | z_K), log p(z_K), log N(rho_K)], `logq_prefactor`
    [log q(z_0 | x), log N(rho_0), -(d/2) log(beta_0 / beta_K)]: here alone, never in the flow's
    potential and never in an evaluation. `reg_function` gets the batched `HVAEOutputs`.

    `kl="analytic"` subtracts from log w the noise of log p(z_0) - log q(z_0 | x) about its mean
    -KL(q || p), known in closed form for a standard normal prior. The expectation stays, and its
    gradient has less noise: at K = 0 it is that of a VAE with the analytic KL.
    """
    logp, logq = (_three(p, n) for p, n in [(logp_prefactor, "logp"), (logq_prefactor, "logq")])
    outputs = forward(model, x, x_out, key=key)
    if not isinstance(outputs, HVAEOutputs):
        raise TypeError("model must be an HVAE: loss needs one; for a plain VAE use vae_loss.")
    log_w = jax.vmap(lambda one: one.weighted(logp, logq))(outputs)
    if _is_analytic(kl, model.vae.prior):
        log_w = log_w - jax.vmap(lambda one: _initial_noise(one, logp[1], logq[0]))(outputs)
    value = -jnp.mean(log_w) + _regularisation(outputs, reg_function, reg_kwargs, reg_strength)
    return (value, outputs) if return_outputs else value


def elbo(
    model: VAE,
    x: Batch,
    x_out: Batch | None = None,
    *,
    key: PRNGKeyArray,
    kl: Literal["analytic", "sampled"] = "analytic",
    return_outputs: bool = False,
) -> Any:
    """The plain VAE's evidence lower bound: mean of log p(x_out | z) - KL(q(z | x) || p(z)).

    The KL is in closed form ("analytic", for a standard normal prior) or from the draw
    ("sampled", for any prior); both have the same expectation.
    """
    outputs = _vae_forward(model, x, x_out, key=key)
    value = jnp.mean(finite_or_zero_weight(outputs.log_likelihood - _kl(model, outputs, kl)))
    return (value, outputs) if return_outputs else value


def vae_loss(
    model: VAE,
    x: Batch,
    x_out: Batch | None = None,
    *,
    key: PRNGKeyArray,
    kl: Literal["analytic", "sampled"] = "analytic",
    kl_weight: ArrayLike = 1.0,
    reg_function: Callable[..., Array] | None = None,
    reg_kwargs: Mapping[str, Any] | None = None,
    reg_strength: ArrayLike = 1.0,
    return_outputs: bool = False,
) -> Any:
    """The plain VAE's loss: mean of kl_weight * KL - log p(x_out | z), plus the regularisation.

    Higgins et al., "beta-VAE" (2017), where kl_weight is called beta.
    """
    outputs = _vae_forward(model, x, x_out, key=key)
    kl_weight = real_number(kl_weight, "kl_weight")
    value = jnp.mean(kl_weight * _kl(model, outputs, kl) - outputs.log_likelihood)
    value = value + _regularisation(outputs, reg_function, reg_kwargs, reg_strength)
    return (value, outputs) if return_outputs else value


def forward(
    model: VAE | HVAE, x: Batch, x_out: Batch | None = None, *, key: PRNGKeyArray
) -> PyTree:
    """The model's outputs for a batch: `VAEOutputs` or `HVAEOutputs` with a leading batch axis.

    Example i draws from the i-th key of `jax.random.split(key, batch)`.
    """
    plain_vae(model)
    check_key(key)
    x, x_out = real_array(x, "x"), None if x_out is None else real_array(x_out, "x_out")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"x must be a batch with at least one example, got shape {x.shape}.")
    if x_out is not None and (x_out.ndim == 0 or len(x_out) != len(x)):
        raise ValueError(f"x_out must have as many examples as x, {len(x)}, got {x_out.shape}.")
    keys = jax.random.split(key, len(x))
    return jax.vmap(lambda x, x_out, key: model(x, x_out, key=key, latent=True))(x, x_out, keys)


def finite_or_zero_weight(log_w: Float[Array, "..."]) -> Float[Array, "..."]:
    """log w, and -inf (w = 0) where it is not finite: a draw that failed never raises a bound."""
    return jnp.where(jnp.isfinite(log_w), log_w, -jnp.inf)


def _log_weight(outputs: PyTree) -> Float[Array, " batch"]:
    return jax.vmap(lambda one: one.log_weight)(outputs)


def _vae_forward(model: VAE, x: Batch, x_out: Batch | None, *, key: PRNGKeyArray) -> VAEOutputs:
    outputs = forward(model, x, x_out, key=key)
    if not isinstance(outputs, VAEOutputs):
        raise TypeError(
            "model must be a VAE: this is the plain VAE's objective; for an HVAE use "
            "hamiltonian_elbo, loss."
        )
    return outputs


def _kl(model: VAE, outputs: VAEOutputs, kl: str) -> Float[Array, " batch"]:
    if _is_analytic(kl, model.prior):
        return jax.vmap(lambda posterior: posterior.kl_from_standard_normal())(outputs.encoder)
    return outputs.log_posterior - outputs.log_prior


def _is_analytic(kl: str, prior: AbstractPrior) -> bool:
    if kl not in ("analytic", "sampled"):
        raise ValueError(f"kl must be 'analytic' or 'sampled', got {kl!r}.")
    if kl == "analytic" and not isinstance(prior, StandardNormal):
        raise ValueError("kl='analytic' needs a StandardNormal prior; use kl='sampled'.")
    return kl == "analytic"


def _initial_noise(
    one: HVAEOutputs, prior_weight: Array, posterior_weight: Array
) -> Float[Array, ""]:
    """prior_weight log p(z_0) - posterior_weight log q(z_0 | x), minus its mean under q."""
    q, z = one.encoder, one.phase_space.z_init
    prior_noise = -0.5 * jnp.sum(z**2 - q.mean**2 - q.sigma**2)
    return prior_weight * prior_noise - posterior_weight * (one.log_posterior + q.entropy())


def _regularisation(
    outputs: PyTree,
    function: Callable[..., Array] | None,
    kwargs: Mapping[str, Any] | None,
    strength: ArrayLike,
) -> Float[Array, ""]:
    if function is None:
        return jnp.asarray(0.0)  # weakly typed: the loss keeps its precision
    check_callable(function, "reg_function")
    strength = real_number(strength, "reg_strength")
    value = jnp.asarray(function(outputs, **(kwargs or {})))
    if value.shape != ():
        raise ValueError(f"reg_function must return one number, got shape {value.shape}.")
    return strength * value


def _three(prefactor: Prefactor, name: str) -> Float[Array, " 3"]:
    values = real_array(prefactor, f"{name}_prefactor").astype(float)
    if values.shape != (3,):
        raise ValueError(f"{name}_prefactor must be three numbers, got shape {values.shape}.")
    return values
