"""The classes and functions that a structure.json may name."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from hvax import parameters
from hvax.hamiltonian import bridge, flow, gradient, integrator, momentum, step_size, tempering
from hvax.models import (
    convolution,
    decoder,
    gaussian,
    heads,
    hvae,
    inputs,
    likelihood,
    mixed,
    mixed_networks,
    network,
    numerics,
    prior,
    smoothed,
    standardize,
    transform,
    vae,
)

_OWN = (
    parameters, bridge, flow, gradient, integrator, momentum, step_size, tempering,
    convolution, decoder, gaussian, heads, hvae, inputs, likelihood, mixed, mixed_networks, network,
    prior, smoothed, standardize, transform, vae,
)  # fmt: skip
# Modules of hvax and layers of Equinox. With the functions below they are all that loads without
# a `like`.
MODULES: dict[str, type] = {
    f"hvax.{name}": cls
    for module in _OWN
    for name, cls in vars(module).items()
    if isinstance(cls, type) and issubclass(cls, eqx.Module) and cls.__module__ == module.__name__
} | {
    f"equinox.nn.{name}": cls
    for name, cls in vars(eqx.nn).items()
    if isinstance(cls, type) and issubclass(cls, eqx.Module)
}
FUNCTIONS: dict[str, Callable] = {
    f"jax.nn.{name}": getattr(jax.nn, name)
    for name in ("softplus", "tanh", "sigmoid", "relu", "gelu", "silu", "elu", "selu", "identity")
} | {
    f"hvax.{function.__name__}": function
    for function in (
        numerics.softplus,
        tempering.quadratic_tempering,
        tempering.null_tempering,
        tempering.temperature_tempering,
    )
}
# Equinox's MLP ends in an unnamed identity unless told otherwise.
_MLP_OPTIONS = inspect.signature(eqx.nn.MLP.__init__).parameters
FUNCTIONS["equinox.nn.MLP.final_activation"] = _MLP_OPTIONS["final_activation"].default
_NAMES = {id(thing): name for table in (MODULES, FUNCTIONS) for name, thing in table.items()}


def name_of(thing: Any) -> str:
    """The name by which a class or function is saved; "" where it has none."""
    if id(thing) in _NAMES:
        return _NAMES[id(thing)]
    name = _qualified(thing)
    return f"{getattr(thing, '__module__', None)}.{name}" if name else ""


def is_name_of(name: str, thing: Any) -> bool:
    """Whether `name` was saved for this class or function.

    Of a user's own only the last part must agree: its file may have been moved, or run as a program
    (`__main__`).
    """
    own = name_of(thing)
    if name == own or name in MODULES or name in FUNCTIONS or id(thing) in _NAMES:
        return name == own
    return name.endswith(f".{_qualified(thing)}")


def _qualified(thing: Any) -> str:
    # JAX's and NumPy's ufuncs have the short name alone.
    return getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or ""
