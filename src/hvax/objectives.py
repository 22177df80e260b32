"""Batches of log-weights -> the numbers that are reported and the losses that are trained.

Every function takes a batch, batch axis first, and gives one number in nats: the mean over it.

A draw whose log w is not finite failed. It counts as w = 0, in every bound and every loss, and
nothing of it flows back in a gradient; where all draws of an example failed the bound is -inf.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

from hvax.checks import check_callable, check_key, count, real_array, real_number
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.hvae import HVAE, ONES, HVAEOutputs, Prefactor, plain_vae
from hvax.models.likelihood import ShapeMismatch
from hvax.models.many_draws import many_draws
from hvax.models.prior import AbstractPrior, StandardNormal
from hvax.models.vae import VAE, VAEOutputs

Batch = Shaped[ArrayLike, "batch ..."]
Estimator = Literal["standard", "dreg"]


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
    elbo = mean_bound(_log_weight(outputs))
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
    outputs = forward(model, x, x_out, key=key, num_samples=num_samples)
    return mean_bound(_log_weight(outputs))


def loss(
    model: HVAE,
    x: Batch,
    x_out: Batch | None = None,
    *,
    key: PRNGKeyArray,
    num_samples: int = 1,
    estimator: Estimator = "standard",
    kl: Literal["sampled", "analytic"] | None = "sampled",
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

    With S = `num_samples` > 1 it is -mean log (1/S) sum_s w_s, and the outputs have an axis of S
    draws ahead of the batch's. `estimator="dreg"` takes the doubly reparameterized gradient of
    either, with the same expectation and, in a plain VAE's encoder, less noise (docs/flows.md);
    it is for the bound alone, without prefactors and regularization.

    `kl="analytic"` subtracts from log w the noise of log p(z_0) - log q(z_0 | x) about its mean
    -KL(q || p), known in closed form for a diagonal Gaussian and a standard normal prior. The
    expectation stays, and its gradient has less noise: at K = 0 it is that of a VAE with the
    analytic KL. None takes it wherever it is known, for one sample and the standard estimator.
    """
    if estimator == "dreg":
        _check_alone(reg_function, logp_prefactor=logp_prefactor, logq_prefactor=logq_prefactor)
    logp, logq = (_three(p, n) for p, n in [(logp_prefactor, "logp"), (logq_prefactor, "logq")])
    outputs, zero = _draws(model, x, x_out, key, num_samples, estimator)
    if not isinstance(outputs, HVAEOutputs):
        raise TypeError("model must be an HVAE: loss needs one; for a plain VAE use vae_loss.")
    log_w = each(outputs, lambda one: one.weighted(logp, logq))
    if _is_analytic(kl, model.vae.prior, outputs, estimator):
        log_w = log_w - each(outputs, lambda one: _initial_noise(one, logp[1], logq[0]))
    value = -mean_bound(log_w, zero) + _regularization(
        outputs, reg_function, reg_kwargs, reg_strength
    )
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
    outputs = forward(model, x, x_out, key=key)
    _check_plain(outputs)
    value = mean_bound(outputs.log_likelihood - _kl(model, outputs, kl))
    return (value, outputs) if return_outputs else value


def vae_loss(
    model: VAE,
    x: Batch,
    x_out: Batch | None = None,
    *,
    key: PRNGKeyArray,
    num_samples: int = 1,
    estimator: Estimator = "standard",
    kl: Literal["analytic", "sampled"] | None = None,
    kl_weight: ArrayLike = 1.0,
    reg_function: Callable[..., Array] | None = None,
    reg_kwargs: Mapping[str, Any] | None = None,
    reg_strength: ArrayLike = 1.0,
    return_outputs: bool = False,
) -> Any:
    """The plain VAE's loss: mean of kl_weight * KL - log p(x_out | z), plus the regularization.

    Where `kl` is not given it is in closed form wherever that is known, for one sample and the
    standard estimator. With S = `num_samples` > 1 draws it is that of the draws, as in `loss`: at
    kl_weight = 1 that is the importance weighted autoencoder's. Higgins et al., "beta-VAE" (2017),
    where kl_weight is called beta; Burda, Grosse and Salakhutdinov (2016).
    """
    if estimator == "dreg":
        _check_alone(reg_function, kl_weight=kl_weight)
    outputs, zero = _draws(model, x, x_out, key, num_samples, estimator)
    _check_plain(outputs)
    kl_weight = real_number(kl_weight, "kl_weight")
    divergence = _kl(model, outputs, kl, estimator)
    value = -mean_bound(outputs.log_likelihood - kl_weight * divergence, zero)
    value = value + _regularization(outputs, reg_function, reg_kwargs, reg_strength)
    return (value, outputs) if return_outputs else value


def forward(
    model: VAE | HVAE,
    x: Batch,
    x_out: Batch | None = None,
    *,
    key: PRNGKeyArray,
    num_samples: int = 1,
) -> PyTree:
    """The model's outputs for a batch: `VAEOutputs` or `HVAEOutputs` with a leading batch axis.

    Example i draws from the i-th key of `jax.random.split(key, batch)`. With S = `num_samples` > 1
    an axis of S draws stands ahead of the batch's, and draw s takes the s-th key of
    `jax.random.split(key, S)` in the place of key.
    """
    return _draws(model, x, x_out, key, num_samples, "standard")[0]


def _draws(
    model: VAE | HVAE,
    x: Batch,
    x_out: Batch | None,
    key: PRNGKeyArray,
    num_samples: int,
    estimator: str,
) -> tuple[PyTree, Float[Array, "*samples batch"] | None]:
    """`forward`, and the zeros that the bound adds where the estimator is "dreg"."""
    plain_vae(model)
    check_key(key)
    num_samples = count(num_samples, "num_samples")
    if estimator not in ("standard", "dreg"):
        raise ValueError(f"estimator must be 'standard' or 'dreg', got {estimator!r}.")
    x, x_out = real_array(x, "x"), None if x_out is None else real_array(x_out, "x_out")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"x must be a batch with at least one example, got shape {x.shape}.")
    if x_out is not None and (x_out.ndim == 0 or len(x_out) != len(x)):
        raise ValueError(f"x_out must have as many examples as x, {len(x)}, got {x_out.shape}.")
    dreg = estimator == "dreg"
    if num_samples == 1 and not dreg:
        keys = jax.random.split(key, len(x))
        one: Any = jax.vmap(lambda x, x_out, key: model(x, x_out, key=key, latent=True))
        return one(x, x_out, keys), None
    posterior: Any = jax.vmap(plain_vae(model).posterior)(x)
    target = x if x_out is None else x_out
    try:
        drawn = many_draws(model, posterior, target, key=key, num_samples=num_samples, dreg=dreg)
    except ShapeMismatch as error:
        raise ValueError(
            f"x_out (x, where it is not given) does not suit the decoder: {error}"
        ) from error
    return drawn if num_samples > 1 else jax.tree.map(lambda a: a[0], drawn)


def finite_or_zero_weight(log_w: Float[Array, "..."]) -> Float[Array, "..."]:
    """log w, and -inf (w = 0) where it is not finite: a draw that failed never raises a bound."""
    return jnp.where(jnp.isfinite(log_w), log_w, -jnp.inf)


def mean_bound(
    log_w: Float[Array, "*samples batch"], zero: Float[Array, "*samples batch"] | None = None
) -> Float[Array, ""]:
    """The mean over a batch of log w, or of log (1/S) sum_s w_s over draws in a first axis.

    A draw that failed counts as w = 0. `zero` is what `many_draws` wants added to the bound.
    """
    bound = finite_or_zero_weight(log_w)
    if log_w.ndim > 1:
        bound = jax.nn.logsumexp(bound, axis=0) - jnp.log(len(log_w))
    if zero is not None:
        bound = bound + (zero if zero.ndim == 1 else jnp.sum(zero, axis=0))
    return jnp.mean(bound)


def each(outputs: PyTree, function: Callable[[Any], Array]) -> Shaped[Array, "*samples batch"]:
    """A function of one draw, of every draw."""
    for _ in range(outputs.log_likelihood.ndim):
        function = jax.vmap(function)
    return function(outputs)


def _log_weight(outputs: PyTree) -> Float[Array, "*samples batch"]:
    return each(outputs, lambda one: one.log_weight)


def _check_plain(outputs: PyTree) -> None:
    if not isinstance(outputs, VAEOutputs):
        raise TypeError(
            "model must be a VAE: this is the plain VAE's objective; for an HVAE use "
            "hamiltonian_elbo, loss."
        )


def _kl(
    model: VAE, outputs: VAEOutputs, kl: str | None, estimator: str = "standard"
) -> Float[Array, "*samples batch"]:
    if _is_analytic(kl, model.prior, outputs, estimator):
        return each(outputs, lambda one: one.encoder.kl_from_standard_normal())
    return outputs.log_posterior - outputs.log_prior


def _is_analytic(kl: str | None, prior: AbstractPrior, outputs: PyTree, estimator: str) -> bool:
    if kl not in ("analytic", "sampled", None):
        raise ValueError(f"kl must be 'analytic' or 'sampled', got {kl!r}.")
    known = isinstance(prior, StandardNormal) and isinstance(outputs.encoder, DiagonalGaussian)
    fits = outputs.log_likelihood.ndim == 1 and estimator == "standard"
    if kl != "analytic":
        return kl is None and known and fits
    if not known:
        raise ValueError(
            "kl='analytic' needs a StandardNormal prior and a DiagonalGaussian posterior; use "
            "kl='sampled'."
        )
    if not fits:
        raise ValueError(
            "kl='analytic' is for one sample and the standard estimator; use kl='sampled'."
        )
    return True


def _initial_noise(
    one: HVAEOutputs, prior_weight: Array, posterior_weight: Array
) -> Float[Array, ""]:
    """prior_weight log p(z_0) - posterior_weight log q(z_0 | x), minus its mean under q."""
    q: Any = one.encoder
    z = one.phase_space.z_init
    prior_noise = -0.5 * jnp.sum(z**2 - q.mean**2 - q.sigma**2)
    return prior_weight * prior_noise - posterior_weight * (one.log_posterior + q.entropy())


def _regularization(
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


def _check_alone(reg_function: Callable[..., Array] | None, **weights: Any) -> None:
    """The doubly reparameterized gradient reads w_s off the cotangent of log q: what weights
    log q, or reaches z_0 beside log w, would weight it wrongly."""
    for name, weight in weights.items():
        known = not isinstance(weight, jax.core.Tracer)
        if not (known and np.all(np.asarray(weight) == 1)):
            raise ValueError(f"estimator='dreg' is for the bound alone: leave out {name}.")
    if reg_function is not None:
        raise ValueError("estimator='dreg' is for the bound alone: leave out reg_function.")


def _three(prefactor: Prefactor, name: str) -> Float[Array, " 3"]:
    values = real_array(prefactor, f"{name}_prefactor").astype(float)
    if values.shape != (3,):
        raise ValueError(f"{name}_prefactor must be three numbers, got shape {values.shape}.")
    return values
