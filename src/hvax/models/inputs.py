"""What networks take beside their first input: a condition and a mask, where they are given.

A user's network need not know of either. A condition that is given must be taken, as the model
would not be p(x | condition) otherwise. A mask need not: any encoder gives a valid bound, as the
likelihood and the flow see observed entries alone; an encoder that takes the mask can tell a
missing value from an average one, and does better.
"""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from hvax.models.data_point import Data, Mask


def call_network(network: Callable[..., Any], x: Array, condition: Any, mask: Mask = None) -> Any:
    """network(x), network(x, condition), and with `mask=mask` where it takes one."""
    positional = () if condition is None else (condition,)
    if mask is None or not takes(network, "mask"):
        return network(x, *positional)
    return network(x, *positional, mask=mask)


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function, or the call of a module, has a parameter of this name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # such as a built-in function
        return False


def takes_condition(network: Callable[..., Any]) -> bool:
    """Whether a network can be called with a second argument, the condition."""
    return _takes_arguments(network, 2)


def needs_condition(network: Callable[..., Any]) -> bool:
    """Whether a network can only be called with a condition."""
    return not _takes_arguments(network, 1) and _takes_arguments(network, 2)


def _takes_arguments(network: Callable[..., Any], number: int) -> bool:
    try:
        inspect.signature(_innermost(network)).bind(*(None,) * number)
    except TypeError:
        return False
    except ValueError:  # such as a built-in function, which has no signature
        return True
    return True


def innermost_name(network: Callable[..., Any]) -> str:
    """The name of a network's class, or of a function, without hvax's wrappers for units."""
    inner = _innermost(network)
    return getattr(inner, "__name__", None) or type(inner).__name__


def _innermost(network: Callable[..., Any]) -> Callable[..., Any]:
    while getattr(network, "passes_condition", False):
        network = network.network  # type: ignore[attr-defined]
    return network


class MaskedInput(eqx.Module):
    """An encoder of data with missing values: x and mask -> network([x, mask]).

    Hidden entries of x are 0, which is a feature's mean in a model that standardizes its data. The
    `network` takes a vector of twice as many numbers as x has. Without a mask all are observed.
    """

    network: Callable[[Array], Any]

    def __call__(self, x: Data, mask: Mask = None) -> Any:
        observed = jnp.ones(x.shape, bool) if mask is None else mask
        values = jnp.where(observed, x, jnp.zeros((), x.dtype))
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        parts: list[Shaped[Array, " n"]] = [
            values.reshape(-1).astype(dtype),
            observed.reshape(-1).astype(dtype),
        ]
        return self.network(jnp.concatenate(parts))
