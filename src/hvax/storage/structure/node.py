"""A node is one level of a model: its kind, its name or value, and its children by label.

The model that is saved, the structure.json, and the `like` that a model is loaded into are all read
as nodes, so each can hold what the others can.
"""

import dataclasses
import functools
import json
import types
from collections import OrderedDict
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from hvax.storage.arrays import storable
from hvax.storage.structure.names import name_of
from hvax.wording import kind_of

# What each kind of node looks like in JSON.
NAMED = ("module", "namedtuple", "partial")  # {kind: name, "fields": {label: node}}
SEQUENCES = ("tuple", "list")  # {kind: [node, ...]}
MAPPINGS = {"dict": dict, "OrderedDict": OrderedDict}  # {kind: {a key as JSON: node}}
ARRAYS = ("array", "numpy")  # {kind: name of the array}; "numpy" stays in NumPy
KEY, IMPLEMENTATION = "key", "implementation"  # a typed PRNG key: {"key": name, ...}
VALUE, FUNCTION = "value", "function"  # {kind: number, string or null}, {kind: name}
PARTIALS = {
    "functools.partial": functools.partial,
    "jax.tree_util.Partial": jax.tree_util.Partial,
}
_PARTIAL_NAMES = {kind: name for name, kind in PARTIALS.items()}


class Malformed(ValueError):
    """A structure.json does not describe a model of this version."""


class Mismatch(ValueError):
    """The model in a file needs a `like`, or another one than was given."""


class Node(NamedTuple):
    """One level of a model. In a file the children are JSON, in a model they are its parts."""

    kind: str
    content: Any  # a name, a value, or an array
    children: dict[str, Any]  # in order, by field, place or key
    implementation: str = ""  # of a PRNG key

    def path_of(self, label: str, path: str) -> str:
        """The path of a child of this node, which is at `path`."""
        return f"{path}[{label}]" if self.kind in MAPPINGS else f"{path}.{label}"


def without_dot(path: str) -> str:
    """A path as it is written in files and messages: vae.encoder."""
    return path.lstrip(".")


def place(path: str) -> str:
    """A path, for a message."""
    return without_dot(path) or "its top"


def short(value: Any) -> str:
    """A value of a file, cut to a length that suits a message."""
    whole = value if isinstance(value, str) and value.isprintable() else repr(value)
    return whole if len(whole) <= 100 else f"{whole[:80]}..."


def node_of(thing: Any, path: str) -> Node:
    """The node of a part of a model. Raises `TypeError` for what cannot be saved."""
    if isinstance(thing, eqx.Module):
        fields = [field.name for field in dataclasses.fields(thing)]
        return Node("module", name_of(type(thing)), {n: getattr(thing, n) for n in fields})
    if isinstance(thing, jax.Array | np.ndarray):
        return _array(thing, path)
    if thing is None or isinstance(thing, bool | int | float | str):
        return Node(VALUE, thing, {})
    if type(thing) in (tuple, list):
        items = {str(i): item for i, item in enumerate(thing)}
        return Node(type(thing).__name__, None, items)
    names = getattr(thing, "_fields", None)
    if isinstance(thing, tuple) and names is not None:
        named = dict(zip(names, thing, strict=True))
        return Node("namedtuple", name_of(type(thing)), named)
    if type(thing) in MAPPINGS.values():
        return Node(type(thing).__name__, None, {_key(k, path): v for k, v in thing.items()})
    if type(thing) in _PARTIAL_NAMES:
        parts = {"func": thing.func, "args": thing.args, "keywords": thing.keywords}
        return Node("partial", _PARTIAL_NAMES[type(thing)], parts)
    if callable(thing):
        return _function(thing, path)
    raise _cannot_save(thing, path)


def _array(array: jax.Array | np.ndarray, path: str) -> Node:
    if isinstance(array, jax.Array):
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            return Node(KEY, array, {}, str(jax.random.key_impl(array)))
    elif type(array) not in (np.ndarray, np.memmap):  # a masked array would lose its mask
        raise _cannot_save(array, path, "Use a plain NumPy or JAX array.")
    if not storable(array.dtype):
        raise TypeError(
            f"cannot save an array of {array.dtype}, at {without_dot(path)} of the model. Use "
            "numbers of at most 64 bits."
        )
    return Node("array" if isinstance(array, jax.Array) else "numpy", array, {})


def _key(key: Any, path: str) -> str:
    """The key of a dict as JSON."""
    if key is not None and type(key) not in (str, int, float, bool):
        raise TypeError(
            f"a dict in a model must have strings or numbers for keys to be saved, got a "
            f"{type(key).__name__}, at {without_dot(path)}."
        )
    return json.dumps(key)


def _function(function: Any, path: str) -> Node:
    # Only a function's name is saved: what a callable object or a bound method holds would be lost.
    bound = isinstance(function, types.MethodType) and not isinstance(function.__self__, type)
    if not name_of(function) or bound:
        raise _cannot_save(function, path, "Make it a function, or an equinox.Module.")
    return Node(FUNCTION, name_of(function), {})


def _cannot_save(thing: Any, path: str, advice: str = "") -> TypeError:
    what = f"cannot save {kind_of(thing)}, at {without_dot(path)} of the model. {advice}"
    return TypeError(what.rstrip())
