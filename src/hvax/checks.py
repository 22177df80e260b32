"""What users hand in, checked at the door: a message names the argument and says what was expected
and what came.

Nothing here reads the numbers of an array, so that all of it works on traced arrays too.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped


def real_array(value: Any, name: str) -> Shaped[Array, "..."]:
    """A JAX array of booleans, integers or floats. Raises `TypeError` for anything else."""
    if np.ma.is_masked(value):
        raise ValueError(
            f"{name} must have no missing values, got a masked array with "
            f"{np.ma.count_masked(value)} of them. Leave such examples out, or fill the holes in."
        )
    array = _array(value)
    if array is None or not _is_real(array.dtype):
        raise TypeError(f"{name} must be an array of real numbers, got {_what(value)}.")
    if isinstance(array, np.ndarray) and not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return jnp.asarray(array)


def real_number(value: Any, name: str) -> Shaped[Array, ""]:
    """One real number, which may be traced. Raises `TypeError` or, for an array, `ValueError`."""
    array = real_array(value, name)
    if array.shape != ():
        raise ValueError(f"{name} must be one number, got shape {array.shape}.")
    return array


def vector(value: Any, name: str) -> Shaped[Array, " d"]:
    """An array of one axis that is not empty, in floating point."""
    array = real_array(value, name)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be one vector of shape (d,), got shape {array.shape}.")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def count(value: Any, name: str, *, least: int = 1) -> int:
    """A whole number that is not too small. Raises `TypeError` or `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}.")
    return int(value)


def shape(value: Any, name: str) -> tuple[int, ...]:
    """A shape, or the sizes of layers: a tuple of whole numbers >= 1."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a tuple of integers, got {value!r}.")
    return tuple(count(size, f"each number of {name}") for size in value)


def positive(value: Any, name: str) -> float:
    """A finite number > 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and > 0, got {value}.")
    return float(value)


def check_key(key: Any) -> None:
    """One random key of JAX's: of its own type, or the two or four words of an old one."""
    if isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != ():
            raise ValueError(f"key must be one random key, got an array of shape {key.shape}.")
        return
    if getattr(key, "dtype", None) != np.uint32 or np.shape(key) not in ((2,), (4,)):
        raise TypeError(f"key must be a random key, jax.random.key(0), got {_what(key)}.")


def check_kind(value: Any, name: str, *kinds: type) -> None:
    """An instance of one of some classes."""
    if not isinstance(value, kinds):
        wanted = " or ".join(f"a {kind.__name__}" for kind in kinds)
        raise TypeError(f"{name} must be {wanted}, got {_what(value)}.")


def check_callable(value: Any, name: str) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {_what(value)}.")


def _array(value: Any) -> Array | np.ndarray | None:
    if value is None or isinstance(value, str | bytes | dict | set):
        return None
    # A Python number does not set the precision of what it meets; JAX knows that of its own arrays
    # and of sequences with traced numbers too, NumPy of neither.
    of_jax = isinstance(value, bool | int | float) or any(
        isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value)
    )
    try:
        return jnp.asarray(value) if of_jax else np.asarray(value)
    except (ValueError, TypeError, OverflowError):  # lists of lists of different lengths
        return None


def _is_real(dtype: Any) -> bool:
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds) and dtype.itemsize <= 8


def _what(value: Any) -> str:
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape}"
    return f"{value!r}" if value is None or isinstance(value, str) else f"a {type(value).__name__}"


def layers_that_ask(network: Any) -> str | None:
    """Which layers of a network ask for more than its input, and what to do; None without any.

    A network of hvax's is a function of one array: nothing hands on a key or a state.
    """

    def asks(layer: Any) -> bool:
        return isinstance(layer, eqx.nn.StatefulLayer | eqx.nn.Dropout)

    found = [layer for layer in jax.tree.leaves(network, is_leaf=asks) if asks(layer)]
    if any(isinstance(layer, eqx.nn.StatefulLayer) for layer in found):
        return (
            "networks must be functions of one array, got a layer that keeps a state, such as "
            "BatchNorm. Take eqx.nn.LayerNorm or eqx.nn.GroupNorm, which keep none."
        )
    if any(isinstance(layer, eqx.nn.Dropout) and not layer.inference for layer in found):
        return (
            "networks must be functions of one array, got a Dropout layer, which asks for a key "
            "too. Take it out, or switch it off with eqx.nn.inference_mode(network)."
        )
    return None
