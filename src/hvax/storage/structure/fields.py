"""Check the fields of a module that was read from a file against their annotations."""

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jaxtyping
import numpy as np

from hvax.models.convolution import Convolution
from hvax.models.network import MLP

_MAX_COUNT = 2**31  # also of an axis: a larger array fits into no memory


def check_fields(module: eqx.Module) -> None:
    """Raise `ValueError` where a field of a module that was built without `__init__` has a value
    that its annotation, or the module's own `__check_init__`, does not allow.

    The shape of an array is not checked: it may have more axes than annotated (a stack of models).
    """
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        if not _fits(value, field.type):
            raise ValueError(f"{field.name} must be {_name(field.type)}, got {_short(value)}")
    for kind in type(module).__mro__:
        if "__check_init__" in vars(kind):
            vars(kind)["__check_init__"](module)
    _check_sizes(module)


def _check_sizes(module: eqx.Module) -> None:
    """Check that a network's arrays have the sizes in its fields. A forged size would have the
    program ask for any amount of data and memory."""
    if isinstance(module, MLP):
        sizes = [math.prod(module.in_shape), math.prod(module.out_shape)]
        weights = [layer.weight.shape[-2:] for layer in module.layers]
        chain = [size for shape in weights for size in reversed(shape)]  # in, out, in, out, ...
        if len(chain) < 2 or [chain[0], chain[-1]] != sizes or chain[1:-1:2] != chain[2:-1:2]:
            raise ValueError(
                f"a network from {module.in_shape} to {module.out_shape} must have weights for "
                f"it, got shapes {_short(weights)}"
            )
    if isinstance(module, Convolution):
        channels = (module.in_shape[-1], module.out_shape[-1])
        if module.weight.shape[-2:] != channels or module.bias.shape[-1:] != channels[1:]:
            raise ValueError(
                f"a convolution of {channels[0]} to {channels[1]} channels must have weights for "
                f"it, got shapes {module.weight.shape} and {module.bias.shape}"
            )


def _fits(value: Any, hint: Any) -> bool:
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in of)
    if origin is typing.Literal:
        return any(type(value) is type(each) and value == each for each in of)
    if origin is tuple:
        return isinstance(value, tuple) and _fit(value, of)
    if origin is Callable or hint is Callable:
        return callable(value)
    if hint is None or hint is types.NoneType:
        return value is None
    if not isinstance(hint, type) or hint is jaxtyping.PyTree:
        return True  # an annotation that is not understood here
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return _is_array(value) or (number and abs(value) < _MAX_COUNT**30 and math.isfinite(value))
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT
    if hint is jax.Array or issubclass(hint, jaxtyping.AbstractArray):
        return _is_array(value)
    return isinstance(value, hint)


def _fit(values: tuple[Any, ...], of: tuple[Any, ...]) -> bool:
    if len(of) == 2 and of[1] is ...:
        return all(_fits(value, of[0]) for value in values)
    return len(values) == len(of) and all(map(_fits, values, of))


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray)


def _short(value: Any) -> str:
    if _is_array(value):
        return f"an array of shape {value.shape}"
    whole = type(value).__name__ if isinstance(value, eqx.Module) else repr(value)
    return whole if len(whole) <= 100 else f"{whole[:80]}..."


def _name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    return getattr(hint, "__name__", None) or str(hint)
