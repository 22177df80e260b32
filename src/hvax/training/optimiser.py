"""The learning rate of a flow's own parameters."""

import math
import numbers
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import PyTree

from hvax.door import check_kind
from hvax.models.hvae import HVAE


def faster_flow(
    optimiser: optax.GradientTransformation, factor: float | int = 10.0
) -> optax.GradientTransformation:
    """`optimiser`, with steps `factor` times as long in the parameters of an HVAE's flow.

        model.vae  <- model.vae  + step.vae
        model.flow <- model.flow + factor * step.flow

    A flow has a few numbers of its own (step sizes, temperatures, bridge, eta). Their gradient is
    several times its noise, that of the networks is not, and the bound is best when they keep up
    with the networks. With Adam and its kin this is a learning rate `factor` times as large. The
    state is that of `optimiser`; a model that is not an `HVAE` is trained by it alone.

    Raises `TypeError` for what is no optimiser, `ValueError` for a factor not finite and > 0.
    """
    check_kind(optimiser, "optimiser", optax.GradientTransformation)
    number = isinstance(factor, numbers.Real) and not isinstance(factor, bool)
    if not (number and math.isfinite(factor) and factor > 0):
        raise ValueError(f"factor must be a finite number > 0, got {factor!r}.")

    def update(updates: PyTree, state: PyTree, params: Any = None, **more: Any) -> Any:
        updates, state = optimiser.update(updates, state, params, **more)
        if isinstance(updates, HVAE):
            faster = jax.tree.map(lambda step: factor * step, updates.flow)
            updates = eqx.tree_at(lambda model: model.flow, updates, faster)
        return updates, state

    return optax.GradientTransformation(optimiser.init, update)
