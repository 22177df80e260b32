"""Bounds on log p(x) and the losses that are trained, from the log-weights of a batch.

Every function takes a batch (an array x with the batch axis first, or a `Batch`) and returns one
number in nats, the mean over the batch.

A draw whose log w is not finite has failed. It counts as w = 0 in every bound and every loss, and
contributes nothing to a gradient. If all draws of an example fail, its bound is -inf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from hvax.checks import check_callable, real_array, real_number
from hvax.models.draw_batch import Examples, as_batch, draw_batch, draws_of_batch, each
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.hamiltonian_terms import ONES, Prefactor, weighted
from hvax.models.latent_model import AbstractLatentModel, Draw
from hvax.models.prior import StandardNormal

Estimator = Literal["standard", "dreg"]
KL = Literal["analytic", "sampled"]


def elbo(
    model: AbstractLatentModel,
    x: Examples,
    target: ArrayLike | None = None,
    *,
    key: PRNGKeyArray,
    kl: KL | None = None,
    return_draws: bool = False,
) -> Any:
    """The evidence lower bound (ELBO): the mean of log w over the batch, one draw per example.

        E[elbo] <= mean log p(target)

    Returns a scalar in nats, -inf if any log w is not finite; with `return_draws=True` the pair
    (scalar, the batch's `Draw`).

    **Arguments:**

    - `x`: an array (batch, ...), or a `Batch`; `target`: what is scored, x by default.
    - `kl`: "analytic" uses the closed form of KL(q(z_0 | x) || p(z)), known for a diagonal Gaussian
      posterior and a standard normal prior: the same expectation with less noise (see `loss`).
      "sampled" uses the draw. None is "analytic" wherever the closed form is known.

    Raises `TypeError` and `ValueError` for arguments of the wrong type, shape or range. Caterini,
    Doucet and Sejdinovic, "Hamiltonian Variational Auto-Encoder" (2018), equation 9.
    """
    draws = draw_batch(model, x, target, key=key)
    value = mean_bound(_log_weights(draws, _is_analytic(kl, model, draws, "standard")))
    return (value, draws) if return_draws else value


def hamiltonian_elbo(
    model: AbstractLatentModel,
    x: Examples,
    target: ArrayLike | None = None,
    *,
    key: PRNGKeyArray,
    return_draws: bool = False,
) -> Any:
    """`elbo` with `kl="sampled"`, under the name that the Julia reference uses for an HVAE."""
    return elbo(model, x, target, key=key, kl="sampled", return_draws=return_draws)


def importance_weighted_bound(
    model: AbstractLatentModel,
    x: Examples,
    target: ArrayLike | None = None,
    *,
    key: PRNGKeyArray,
    num_samples: int,
) -> Float[Array, ""]:
    """The importance weighted bound with S = `num_samples` draws per example, in nats.

        mean over the batch of log (1/S) sum_s w_s,   in expectation <= mean log p(target)

    S = 1 is the ELBO; the expectation grows with S. A draw whose log w is not finite counts as
    w = 0. Raises as `elbo` does. Burda, Grosse and Salakhutdinov, "Importance Weighted
    Autoencoders" (2016).
    """
    return mean_bound(draw_batch(model, x, target, key=key, num_samples=num_samples).log_weight)


def loss(
    model: AbstractLatentModel,
    x: Examples,
    target: ArrayLike | None = None,
    *,
    key: PRNGKeyArray,
    num_samples: int = 1,
    estimator: Estimator = "standard",
    kl: KL | None = None,
    kl_weight: ArrayLike = 1.0,
    logp_prefactor: Prefactor | None = None,
    logq_prefactor: Prefactor | None = None,
    reg_function: Callable[..., Array] | None = None,
    reg_kwargs: Mapping[str, Any] | None = None,
    reg_strength: ArrayLike = 1.0,
    return_draws: bool = False,
) -> Any:
    """The training loss of a batch, to be minimized: a scalar in nats.

        -mean log (1/S) sum_s w_s + reg_strength * reg_function(draws, **reg_kwargs)

    with S = `num_samples`; S = 1 gives the negative ELBO. With `return_draws=True` also returns the
    batch's `Draw`, which for S > 1 has an axis of S before the batch axis.

    - `estimator`: "dreg" uses the doubly reparameterized gradient, with the same expectation and,
      in a plain VAE's encoder, less noise (docs/flows.md). It supports the plain bound only: no
      `kl_weight`, prefactors or regularization.
    - `kl`: "analytic" replaces log p(z_0) - log q(z_0 | x) in log w by its mean -KL(q || p), known
      in closed form for a diagonal Gaussian posterior and a standard normal prior: the expectation
      is the same, the gradient has less noise. "sampled" keeps log w unchanged. None is "analytic"
      wherever the closed form is known, for one sample and the standard estimator.
    - `kl_weight`: factor of all terms of log w except log p(target | z) (beta in Higgins et al.,
      "beta-VAE", 2017). It affects only the loss, never an evaluation.
    - `logp_prefactor`, `logq_prefactor`: for an HVAE with a `HamiltonianFlow`: three factors each,
      of [log p(x | z_K), log p(z_K), log N(rho_K)] and of [log q(z_0 | x), log N(rho_0),
      -(d/2) log(beta_0 / beta_K)]. They affect only the loss, never the flow's potential.
    - `reg_function`: called with the batch's `Draw`; returns one number.

    Raises as `elbo` does, and `ValueError` for a combination of options that is not supported.
    """
    prefactors = _prefactors(logp_prefactor, logq_prefactor)
    if estimator == "dreg":
        _check_dreg_options(
            reg_function,
            kl_weight=kl_weight,
            logp_prefactor=ONES if logp_prefactor is None else logp_prefactor,
            logq_prefactor=ONES if logq_prefactor is None else logq_prefactor,
        )
    draws, zero = draws_of_batch(model, as_batch(x, target), key, num_samples, estimator)
    analytic = _is_analytic(kl, model, draws, estimator)
    log_w = _log_weights(draws, analytic, _kl_weight(kl_weight), prefactors)
    value = -mean_bound(log_w, zero)
    value = value + _regularization(draws, reg_function, reg_kwargs, reg_strength)
    return (value, draws) if return_draws else value


def finite_or_zero_weight(log_w: Float[Array, "..."]) -> Float[Array, "..."]:
    """log w, with every non-finite value replaced by -inf (w = 0): a failed draw lowers a bound."""
    return jnp.where(jnp.isfinite(log_w), log_w, -jnp.inf)


def mean_bound(
    log_w: Float[Array, "*samples batch"], zero: Float[Array, "*samples batch"] | None = None
) -> Float[Array, ""]:
    """The mean over a batch of log w, or of log (1/S) sum_s w_s over S draws in a first axis.

    A draw that failed counts as w = 0. `zero`, from `many_draws`, does not change the value; it
    carries the doubly reparameterized gradient.
    """
    bound = finite_or_zero_weight(log_w)
    if log_w.ndim > 1:
        bound = jax.nn.logsumexp(bound, axis=0) - jnp.log(len(log_w))
    if zero is not None:
        bound = bound + (zero if zero.ndim == 1 else jnp.sum(zero, axis=0))
    return jnp.mean(bound)


def _log_weights(
    draws: Draw,
    analytic: bool,
    kl_weight: Array | None = None,
    prefactors: tuple[Array, Array] | None = None,
) -> Float[Array, "*samples batch"]:
    """log w of every draw, its terms weighted as the loss specifies."""
    if prefactors is not None:
        a, b = prefactors
        if kl_weight is not None:
            a, b = jnp.concatenate([a[:1], kl_weight * a[1:]]), kl_weight * b
        log_w = each(draws, lambda draw: weighted(draw, a, b))
        return (
            log_w - each(draws, lambda draw: _control_variate(draw, a[1], b[0]))
            if analytic
            else log_w
        )
    log_w = draws.log_weight
    if analytic and draws.trajectory is None:
        # Without a flow z_0 is also the end: log p(z) - log q(z | x) is replaced by -KL as a whole.
        rest = -each(draws, _kl)
        log_w = draws.log_likelihood + rest
    elif analytic:
        log_w = log_w - each(draws, lambda draw: _control_variate(draw, 1.0, 1.0))
    if kl_weight is None:
        return log_w
    return draws.log_likelihood + kl_weight * (log_w - draws.log_likelihood)


def _kl(draw: Draw) -> Float[Array, ""]:
    q: Any = draw.posterior
    return q.kl_from_standard_normal()


def _kl_weight(kl_weight: ArrayLike) -> Array | None:
    """`kl_weight` as an array; None if it is a Python 1, so that no multiplication is compiled."""
    if isinstance(kl_weight, int | float) and kl_weight == 1:
        return None
    return real_number(kl_weight, "kl_weight")


def _control_variate(
    draw: Draw, prior_weight: ArrayLike, posterior_weight: ArrayLike
) -> Float[Array, ""]:
    """prior_weight log p(z_0) - posterior_weight log q(z_0 | x), minus its mean under q.

    It has expectation 0 under q, so subtracting it from log w (a control variate) changes no
    expectation: E[log p] = -(|mean|^2 + |sigma|^2) / 2 + const and E[log q] = -entropy(q).
    """
    q: Any = draw.posterior
    prior_noise = -0.5 * jnp.sum(draw.z_init**2 - q.mean**2 - q.sigma**2)
    return prior_weight * prior_noise - posterior_weight * (draw.log_posterior + q.entropy())


def _is_analytic(kl: str | None, model: AbstractLatentModel, draws: Draw, estimator: str) -> bool:
    if kl not in ("analytic", "sampled", None):
        raise ValueError(f"kl must be 'analytic' or 'sampled', got {kl!r}.")
    known = isinstance(model.prior, StandardNormal) and isinstance(
        draws.posterior, DiagonalGaussian
    )
    fits = draws.log_weight.ndim == 1 and estimator == "standard"
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


def _regularization(
    draws: Draw,
    function: Callable[..., Array] | None,
    kwargs: Mapping[str, Any] | None,
    strength: ArrayLike,
) -> Float[Array, ""]:
    if function is None:
        return jnp.asarray(0.0)  # weakly typed, so the loss keeps its dtype
    check_callable(function, "reg_function")
    strength = real_number(strength, "reg_strength")
    value = jnp.asarray(function(draws, **(kwargs or {})))
    if value.shape != ():
        raise ValueError(f"reg_function must return one number, got shape {value.shape}.")
    return strength * value


def _check_dreg_options(reg_function: Callable[..., Array] | None, **weights: Any) -> None:
    """Raise `ValueError` for options that "dreg" does not support."""
    # That gradient reads the weights w_s off the cotangents of log w (see `many_draws`). Factors on
    # the terms of log w, or a second path from z_0 to the loss, would change those cotangents.
    for name, weight in weights.items():
        known = not isinstance(weight, jax.core.Tracer)
        if not (known and np.all(np.asarray(weight) == 1)):
            raise ValueError(f"estimator='dreg' supports the plain bound only: leave out {name}.")
    if reg_function is not None:
        raise ValueError("estimator='dreg' supports the plain bound only: leave out reg_function.")


def _prefactors(logp: Prefactor | None, logq: Prefactor | None) -> tuple[Array, Array] | None:
    if logp is None and logq is None:
        return None
    return _three_factors(ONES if logp is None else logp, "logp"), _three_factors(
        ONES if logq is None else logq, "logq"
    )


def _three_factors(prefactor: Prefactor, name: str) -> Float[Array, " 3"]:
    values = real_array(prefactor, f"{name}_prefactor").astype(float)
    if values.shape != (3,):
        raise ValueError(f"{name}_prefactor must be three numbers, got shape {values.shape}.")
    return values
