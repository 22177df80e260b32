"""Batches of log-weights -> the numbers that are reported and the losses that are trained.

Every function takes a batch, batch axis first, and gives one number in nats: the mean over it. The
batch is an array x, or a `Batch` with all that is given of the examples.

A draw whose log w is not finite failed. It counts as w = 0, in every bound and every loss, and
nothing of it flows back in a gradient; where all draws of an example failed the bound is -inf.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from hvax.batch import Batch
from hvax.checks import check_callable, check_key, check_kind, count, real_array, real_number
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.hamiltonian_terms import ONES, Prefactor, weighted
from hvax.models.latent_model import AbstractLatentModel, Draw, batch_of_posteriors, map_examples
from hvax.models.likelihood import ShapeMismatch
from hvax.models.many_draws import many_draws
from hvax.models.prior import StandardNormal

Examples = Shaped[ArrayLike, "batch ..."] | Batch
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
    """The evidence lower bound: mean of log w over the batch, one draw each; <= log p(target).

    `kl="analytic"` takes the KL of the encoder from the prior in closed form, which is known for a
    diagonal Gaussian and a standard normal prior: the same expectation with less noise (see
    `loss`). "sampled" takes it from the draw. None is the first wherever that is known. With
    `return_draws=True` also the batch's `Draw`. A draw whose log w is not finite makes it -inf.
    Caterini et al. (2018), equation 9.
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
    """`elbo` by the name that it has for a Hamiltonian VAE, with the KL from the draw."""
    return elbo(model, x, target, key=key, kl="sampled", return_draws=return_draws)


def importance_weighted_bound(
    model: AbstractLatentModel,
    x: Examples,
    target: ArrayLike | None = None,
    *,
    key: PRNGKeyArray,
    num_samples: int,
) -> Float[Array, ""]:
    """mean over the batch of log (1/S) sum_s w_s, S = `num_samples` draws each; <= log p(target).

    S = 1 is the ELBO, and in expectation it grows with S. A draw whose log w is not finite counts
    as w = 0. Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders" (2016).
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
    """What is minimized: -mean log w + reg_strength * reg_function(draws, **reg_kwargs), in nats.

    With S = `num_samples` > 1 it is -mean log (1/S) sum_s w_s, and the draws have an axis of S
    ahead of the batch's. `estimator="dreg"` takes the doubly reparameterized gradient of either,
    with the same expectation and, in a plain VAE's encoder, less noise (docs/flows.md); it is for
    the bound alone, without weights and regularization.

    - `kl`: "analytic" takes from log w the noise of log p(z_0) - log q(z_0 | x) about its mean
      -KL(q || p), known in closed form for a diagonal Gaussian and a standard normal prior. The
      expectation stays, and its gradient has less noise. "sampled" leaves log w as it is. None is
      the first wherever that is known, for one sample and the standard estimator.
    - `kl_weight`: what all terms of log w but log p(target | z) are multiplied with (beta in
      Higgins et al., "beta-VAE", 2017), in the loss alone and never in an evaluation.
    - `logp_prefactor`, `logq_prefactor`: for an HVAE with a `HamiltonianFlow`: three factors each,
      of [log p(x | z_K), log p(z_K), log N(rho_K)] and of [log q(z_0 | x), log N(rho_0),
      -(d/2) log(beta_0 / beta_K)]; in the loss alone, never in the flow's potential.
    - `reg_function`: called with the batch's `Draw`; gives one number.
    """
    prefactors = _prefactors(logp_prefactor, logq_prefactor)
    if estimator == "dreg":
        _check_alone(
            reg_function,
            kl_weight=kl_weight,
            logp_prefactor=ONES if logp_prefactor is None else logp_prefactor,
            logq_prefactor=ONES if logq_prefactor is None else logq_prefactor,
        )
    draws, zero = _draws(model, as_batch(x, target), key, num_samples, estimator)
    analytic = _is_analytic(kl, model, draws, estimator)
    log_w = _log_weights(draws, analytic, _weight(kl_weight), prefactors)
    value = -mean_bound(log_w, zero)
    value = value + _regularization(draws, reg_function, reg_kwargs, reg_strength)
    return (value, draws) if return_draws else value


def draw_batch(
    model: AbstractLatentModel,
    x: Examples,
    target: ArrayLike | None = None,
    *,
    key: PRNGKeyArray,
    num_samples: int = 1,
) -> Draw:
    """The model's draws for a batch: a `Draw` with a leading batch axis.

    Example i draws from the i-th key of `jax.random.split(key, batch)`. With S = `num_samples` > 1
    an axis of S draws stands ahead of the batch's, and draw s takes the s-th key of
    `jax.random.split(key, S)` in the place of key.
    """
    return _draws(model, as_batch(x, target), key, num_samples, "standard")[0]


def as_batch(x: Any, target: Any = None) -> Batch:
    """A `Batch` of JAX arrays, checked: real numbers, as many of each as there are examples."""
    if isinstance(x, Batch):
        if target is not None:
            raise TypeError("target must not be given beside a Batch, which has its own.")
        batch = x
    else:
        batch = Batch(x, target)
    arrays = {
        name: real_array(part, name) for name, part in batch._asdict().items() if part is not None
    }
    first = arrays["x"]
    if first.ndim == 0 or len(first) == 0:
        raise ValueError(f"x must be a batch with at least one example, got shape {first.shape}.")
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) != len(first):
            raise ValueError(
                f"{name} must have as many examples as x, {len(first)}, got {array.shape}."
            )
    return Batch(**arrays)


def _draws(
    model: AbstractLatentModel, batch: Batch, key: PRNGKeyArray, num_samples: int, estimator: str
) -> tuple[Draw, Float[Array, "*samples batch"] | None]:
    """`draw_batch`, and the zeros that the bound adds where the estimator is "dreg"."""
    check_kind(model, "model", AbstractLatentModel)
    check_key(key)
    num_samples = count(num_samples, "num_samples")
    if estimator not in ("standard", "dreg"):
        raise ValueError(f"estimator must be 'standard' or 'dreg', got {estimator!r}.")
    dreg = estimator == "dreg"
    given = batch.given()
    posterior = batch_of_posteriors(model, batch.x, given)
    try:
        if num_samples == 1 and not dreg:
            keys = jax.random.split(key, len(batch.x))
            drawn = map_examples(
                lambda q, target, given, key: model.draw(q, target, key=key, **given),
                posterior, batch.scored, given, keys,
            )  # fmt: skip
            return drawn, None
        drawn, zero = many_draws(
            model, posterior, batch.scored, given, key=key, num_samples=num_samples, dreg=dreg
        )
    except ShapeMismatch as error:
        raise ValueError(
            f"target (x, where it is not given) does not suit the decoder: {error}"
        ) from error
    if num_samples > 1:
        return drawn, zero
    return jax.tree.map(lambda a: a[0] if eqx.is_array(a) else a, (drawn, zero))


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


def each(draws: Draw, function: Callable[[Draw], Array]) -> Shaped[Array, "*samples batch"]:
    """A function of one draw, of every draw."""
    for _ in range(draws.log_weight.ndim):
        function = partial(map_examples, function)
    return function(draws)


def _log_weights(
    draws: Draw,
    analytic: bool,
    kl_weight: Array | None = None,
    prefactors: tuple[Array, Array] | None = None,
) -> Float[Array, "*samples batch"]:
    """log w of every draw, its terms weighed as the loss asks for."""
    if prefactors is not None:
        a, b = prefactors
        if kl_weight is not None:
            a, b = jnp.concatenate([a[:1], kl_weight * a[1:]]), kl_weight * b
        log_w = each(draws, lambda draw: weighted(draw, a, b))
        return log_w - each(draws, lambda draw: _noise(draw, a[1], b[0])) if analytic else log_w
    log_w = draws.log_weight
    if analytic and draws.trajectory is None:  # without a flow nothing of the noise is left
        rest = -each(draws, _kl)
        log_w = draws.log_likelihood + rest
    elif analytic:
        log_w = log_w - each(draws, lambda draw: _noise(draw, 1.0, 1.0))
    if kl_weight is None:
        return log_w
    return draws.log_likelihood + kl_weight * (log_w - draws.log_likelihood)


def _kl(draw: Draw) -> Float[Array, ""]:
    q: Any = draw.posterior
    return q.kl_from_standard_normal()


def _weight(kl_weight: ArrayLike) -> Array | None:
    """None for a 1 that is known to be one: then nothing is computed with it."""
    if isinstance(kl_weight, int | float) and kl_weight == 1:
        return None
    return real_number(kl_weight, "kl_weight")


def _noise(draw: Draw, prior_weight: ArrayLike, posterior_weight: ArrayLike) -> Float[Array, ""]:
    """prior_weight log p(z_0) - posterior_weight log q(z_0 | x), minus its mean under q."""
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
        return jnp.asarray(0.0)  # weakly typed: the loss keeps its precision
    check_callable(function, "reg_function")
    strength = real_number(strength, "reg_strength")
    value = jnp.asarray(function(draws, **(kwargs or {})))
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


def _prefactors(logp: Prefactor | None, logq: Prefactor | None) -> tuple[Array, Array] | None:
    if logp is None and logq is None:
        return None
    return _three(ONES if logp is None else logp, "logp"), _three(
        ONES if logq is None else logq, "logq"
    )


def _three(prefactor: Prefactor, name: str) -> Float[Array, " 3"]:
    values = real_array(prefactor, f"{name}_prefactor").astype(float)
    if values.shape != (3,):
        raise ValueError(f"{name}_prefactor must be three numbers, got shape {values.shape}.")
    return values
