"""What training through a flow asks of an optimizer: a rate of the flow's own, and no outliers."""

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


@cache
def default_optimizer() -> optax.GradientTransformation:
    """What `fit` takes: Adam at 1e-3, with the two below. One object, so that compiled steps of one
    training serve the next."""
    return scale_flow_updates(clip_by_running_norm(optax.adam(1e-3)))


_MEMORY = 0.99  # of the running mean of gradients' norms, per step


def scale_flow_updates(
    optimizer: optax.GradientTransformation, factor: float | int = 10.0
) -> optax.GradientTransformation:
    """`optimizer`, with steps `factor` times as long in the parameters of an HVAE's flow.

        model.vae  <- model.vae  + step.vae
        model.flow <- model.flow + factor * step.flow

    A flow has a few numbers of its own (step sizes, temperatures, bridge, eta). Their gradient is
    several times its noise, that of the networks is not, and the bound is best when they keep up
    with the networks. With Adam and its kin this is a learning rate `factor` times as large. The
    state is that of `optimizer`; a model that is not an `HVAE` is trained by it alone.

    Raises `TypeError` for what is no optimizer, `ValueError` for a factor not finite and > 0.
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

    inner: PyTree  # of the optimizer
    mean_norm: Float[Array, ""]  # running mean of |g|; 0 before the first step


def clip_by_running_norm(
    optimizer: optax.GradientTransformation, factor: float | int = 4.0
) -> optax.GradientTransformation:
    """`optimizer`, on gradients at most `factor` times as long as they are on average.

        g <- g min(1, factor m / |g|),   then   m <- 0.99 m + 0.01 |g|,   m = |g| at first

    with |g| over all parameters. A leapfrog step that is at the edge of what is stable for most
    examples is beyond it for one in a million, whose gradient is then a thousand times the usual.
    One such gradient undoes epochs of training: Adam's second moment forgets it after a thousand
    steps. Gradients that grow for good are followed within a few dozen. One whose norm overflows is
    taken for 0, and m stays.

    Raises `TypeError` for what is no optimizer, `ValueError` for a factor not finite and > 1.
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
        mean = _MEMORY * mean + (1 - _MEMORY) * jnp.minimum(norm, factor * mean)
        mean = jnp.where(jnp.isfinite(norm), mean, state.mean_norm)
        return updates, Clipped(inner_state, mean)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_factor(factor: Any, told: str, least: float) -> None:
    number = isinstance(factor, numbers.Real) and not isinstance(factor, bool)
    if not (number and math.isfinite(factor) and factor > least):
        raise ValueError(f"factor must be a finite number {told}, got {factor!r}.")
