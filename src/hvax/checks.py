"""Argument checks: each error names the argument, what was expected and what was received.

Only types, shapes and dtypes of arrays are looked at, never values, so every check also works on
traced arrays (inside `jax.jit`).
"""

import os
from collections.abc import Collection, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from hvax.wording import kind_of, with_article


def real_array(value: Any, name: str) -> Shaped[Array, "..."]:
    """`value` as a JAX array of booleans, integers or floats, in JAX's current precision.

    Raises `TypeError` for anything else, and `ValueError` for a masked array with missing values.
    """
    if np.ma.is_masked(value):
        raise ValueError(
            f"{name} must have no missing values, got a masked array with "
            f"{np.ma.count_masked(value)} of them. Leave such examples out, or fill the gaps in."
        )
    array = _array(value)
    if array is None or not _is_real(array.dtype):
        raise TypeError(f"{name} must be an array of real numbers, got {_describe(value)}.")
    if isinstance(array, np.ndarray) and not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return jnp.asarray(array)


def real_number(value: Any, name: str) -> Shaped[Array, ""]:
    """`value` as a scalar array; it may be traced. Raises `ValueError` for another shape."""
    array = real_array(value, name)
    if array.shape != ():
        raise ValueError(f"{name} must be one number, got shape {array.shape}.")
    return array


def vector(value: Any, name: str) -> Shaped[Array, " d"]:
    """`value` as a floating-point array of shape (d,), d >= 1. Raises `ValueError` otherwise."""
    array = real_array(value, name)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be one vector of shape (d,), got shape {array.shape}.")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def count(value: Any, name: str, *, least: int = 1) -> int:
    """`value` as a Python int. Raises `TypeError` for no integer, `ValueError` below `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}.")
    return int(value)


def shape(value: Any, name: str) -> tuple[int, ...]:
    """`value` (a shape or a list of layer sizes) as a tuple of ints >= 1."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a tuple of integers, got {value!r}.")
    return tuple(count(size, f"each number of {name}") for size in value)


def positive(value: Any, name: str) -> float:
    """`value` as a float. Raises `ValueError` unless it is finite and > 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and > 0, got {value}.")
    return float(value)


def check_key(key: Any) -> None:
    """Raise unless `key` is one JAX random key, typed or raw (`uint32` of 2 or 4 words)."""
    if isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != ():
            raise ValueError(f"key must be one random key, got an array of shape {key.shape}.")
        return
    if getattr(key, "dtype", None) != np.uint32 or np.shape(key) not in ((2,), (4,)):
        raise TypeError(
            f"key must be a random key, such as jax.random.key(0), got {_describe(key)}."
        )


def check_kind(value: Any, name: str, *kinds: type) -> None:
    """Raise `TypeError` unless `value` is an instance of one of `kinds`."""
    if not isinstance(value, kinds):
        wanted = " or ".join(with_article(kind.__name__) for kind in kinds)
        raise TypeError(f"{name} must be {wanted}, got {_describe(value)}.")


def check_one_of(value: Any, name: str, choices: Collection[str]) -> None:
    """Raise `ValueError` unless `value` is one of the words `choices`."""
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


def check_path(value: Any, name: str) -> None:
    """Raise `TypeError` unless `value` is a path: a string or a `pathlib.Path`."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, as text or pathlib.Path, got {_describe(value)}.")


def check_callable(value: Any, name: str) -> None:
    """Raise `TypeError` unless `value` is callable."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {_describe(value)}.")


def _array(value: Any) -> Array | np.ndarray | None:
    if value is None or isinstance(value, str | bytes | dict | set):
        return None
    # jnp.asarray keeps Python numbers weakly typed (they do not raise the precision of what they
    # are combined with) and accepts tracers inside lists; np.asarray does neither. Everything else
    # goes through NumPy, so that the caller can still see the dtype before JAX narrows it.
    use_jax = isinstance(value, bool | int | float) or any(
        isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value)
    )
    try:
        return jnp.asarray(value) if use_jax else np.asarray(value)
    except (ValueError, TypeError, OverflowError):  # such as lists of different lengths
        return None


def _is_real(dtype: Any) -> bool:
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds) and dtype.itemsize <= 8


def _describe(value: Any) -> str:
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape}"
    if value is None or isinstance(value, str):
        return repr(value)
    return kind_of(value)


def unsupported_layers(network: Any) -> str | None:
    """The error message for a network with Dropout or stateful layers; None if it has neither.

    hvax calls a network with one array: it passes neither a random key nor a layer state.
    """

    def unsupported(layer: Any) -> bool:
        return isinstance(layer, eqx.nn.StatefulLayer | eqx.nn.Dropout)

    found = [layer for layer in jax.tree.leaves(network, is_leaf=unsupported) if unsupported(layer)]
    if any(isinstance(layer, eqx.nn.StatefulLayer) for layer in found):
        return (
            "networks must be functions of one array, got a layer that keeps a state, such as "
            "BatchNorm. Use eqx.nn.LayerNorm or eqx.nn.GroupNorm, which keep none."
        )
    if any(isinstance(layer, eqx.nn.Dropout) and not layer.inference for layer in found):
        return (
            "networks must be functions of one array, got a Dropout layer, which needs a key "
            "too. Remove it, or switch it off with eqx.nn.inference_mode(network)."
        )
    return None
