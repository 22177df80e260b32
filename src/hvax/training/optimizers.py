"""Optimizers for training through a flow: a higher rate for the flow, and clipped gradients."""

import math
import numbers
from functools import cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from hvax.checks import check_kind
from hvax.models.hvae import HVAE
from hvax.training.flat import flatten_small


def default_optimizer(learning_rate: float = 1e-3) -> optax.GradientTransformation:
    """The optimizer that `fit` uses by default: Adam in three wrappers, see each."""
    return _adam(learning_rate)


@cache
def _adam(learning_rate: float) -> optax.GradientTransformation:
    # Cached, because compiled training steps are shared by identity of their optimizer.
    return scale_flow_updates(flatten_small(clip_by_running_norm(optax.adam(learning_rate))))


_MEMORY = 0.99  # decay per step of the running mean of gradient norms


def scale_flow_updates(
    optimizer: optax.GradientTransformation, factor: float | int = 10.0
) -> optax.GradientTransformation:
    """Wrap an optimizer so that its updates of an HVAE's flow are multiplied by `factor`.

        model.vae  <- model.vae  + step.vae
        model.flow <- model.flow + factor * step.flow

    With Adam and similar optimizers this is a learning rate `factor` times as large. A flow has
    only a few parameters (step sizes, temperatures, bridge, eta), whose gradients are several times
    their noise, unlike those of the networks: they can take longer steps, and the bound is best
    when they keep up with the networks. The optimizer's state is unchanged, and models that are not
    an `HVAE` are not affected.

    Raises `TypeError` for what is no optimizer, `ValueError` unless factor is finite and > 0.
    """
    check_kind(optimizer, "optimizer", optax.GradientTransformation)
    _check_factor(factor, "> 0", 0.0)

    inner = optax.with_extra_args_support(optimizer)

    def update(updates: PyTree, state: PyTree, params: Any = None, **more: Any) -> Any:
        updates, state = inner.update(updates, state, params, **more)
        if isinstance(updates, HVAE):
            faster = jax.tree.map(lambda step: factor * step, updates.flow)
            updates = eqx.tree_at(lambda model: model.flow, updates, faster)
        return updates, state

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


class Clipped(NamedTuple):
    """The state of `clip_by_running_norm`."""

    inner: PyTree  # state of the wrapped optimizer
    mean_norm: Float[Array, ""]  # running mean of |g|; 0 before the first step


def clip_by_running_norm(
    optimizer: optax.GradientTransformation, factor: float | int = 4.0
) -> optax.GradientTransformation:
    """Wrap an optimizer so that gradients are clipped at `factor` times their running mean norm.

        g <- g min(1, factor m / |g|),   then   m <- 0.99 m + 0.01 |g|,   m = |g| at first

    with |g| the norm over all parameters. A gradient whose norm overflows counts as 0 and leaves m
    unchanged.

    A leapfrog step that is just stable for most examples is unstable for one in a million, and the
    gradient of that example is a thousand times as long as usual. One such gradient undoes epochs
    of training, because Adam's second moment needs a thousand steps to forget it. If gradients grow
    permanently, m follows within a few dozen steps.

    Raises `TypeError` for what is no optimizer, `ValueError` unless factor is finite and > 1.
    """
    check_kind(optimizer, "optimizer", optax.GradientTransformation)
    _check_factor(factor, "> 1", 1.0)

    inner = optax.with_extra_args_support(optimizer)

    def init(params: PyTree) -> Clipped:
        return Clipped(optimizer.init(params), jnp.zeros(()))

    def update(gradient: PyTree, state: Clipped, params: Any = None, **more: Any) -> Any:
        norm = optax.tree.norm(gradient).astype(state.mean_norm.dtype)
        mean = jnp.where(state.mean_norm > 0, state.mean_norm, norm)
        scale = jnp.minimum(1.0, factor * mean / jnp.where(norm > 0, norm, 1.0))
        scale = jnp.where(jnp.isfinite(norm), scale, 0.0)
        gradient = jax.tree.map(lambda g: scale.astype(g.dtype) * g, gradient)
        if "grad" in more:
            more["grad"] = gradient
        updates, inner_state = inner.update(gradient, state.inner, params, **more)
        # The mean is fed with the clipped norm: an outlier must not raise the limit for the next.
        mean = _MEMORY * mean + (1 - _MEMORY) * jnp.minimum(norm, factor * mean)
        mean = jnp.where(jnp.isfinite(norm), mean, state.mean_norm)
        return updates, Clipped(inner_state, mean)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_factor(factor: Any, bound: str, least: float) -> None:
    number = isinstance(factor, numbers.Real) and not isinstance(factor, bool)
    if not (number and math.isfinite(factor) and factor > least):
        raise ValueError(f"factor must be a finite number {bound}, got {factor!r}.")
