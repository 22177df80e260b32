"""A model <-> a folder: its structure as JSON, its arrays as safetensors. No pickle, no code.

    folder/structure.json              format version, the tree of modules, checksums
    folder/weights-<hash>.safetensors  every array, by its path in the tree

structure.json names the weights file by its hash and is replaced last, so a folder always holds
one whole model.
"""

import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from hvax import parameter
from hvax.arrays import pack, unpack
from hvax.files import sealed, unsealed, write_atomically
from hvax.hamiltonian import bridge, flow, gradient, integrator, step_size, tempering
from hvax.models import (
    convolution,
    decoder,
    gaussian,
    heads,
    hvae,
    likelihood,
    network,
    numerics,
    prior,
    smoothed,
    standardize,
    transform,
    vae,
)

FORMAT = 1
STRUCTURE = "structure.json"
_MANIFEST = {"weights": str, "sha256": str, "narrow": dict, "model": dict}

_OWN = (
    parameter, bridge, flow, gradient, integrator, step_size, tempering, convolution, decoder,
    gaussian, heads, hvae, likelihood, network, prior, smoothed, standardize, transform, vae,
)  # fmt: skip
# What a structure.json may name: hvax's own modules, Equinox's layers, and these functions.
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
_MODULE_NAMES = {cls: name for name, cls in MODULES.items()}
_FUNCTION_NAMES = {function: name for name, function in FUNCTIONS.items()}


def save(model: eqx.Module, folder: str | Path) -> None:
    """Writes a model into `folder`, made where missing; a model that is there is replaced whole.

    Arrays come back bit-equal. A model with modules or functions of the user's own is saved too,
    and loads with `load(folder, like=model)`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    tree = _encode(model, "", arrays)
    weights = pack(arrays)
    name = f"weights-{weights.sha256[:16]}.safetensors"
    manifest = {
        "format": FORMAT,
        "weights": name,
        "sha256": weights.sha256,
        "narrow": weights.narrow,
        "model": tree,
    }
    write_atomically(folder / name, weights.content)
    write_atomically(folder / STRUCTURE, sealed(manifest))
    for old in folder.glob("weights-*.safetensors"):
        if old.name != name:
            old.unlink()


def digest(model: eqx.Module) -> str:
    """The SHA-256 of a model's arrays: equal for models that are equal bit for bit."""
    arrays: dict[str, np.ndarray] = {}
    _encode(model, "", arrays)
    return pack(arrays).sha256


def load(folder: str | Path, *, like: eqx.Module | None = None) -> Any:
    """The model that `save` wrote into `folder`.

    `like`, a model of the same structure, is needed where the saved one holds modules or functions
    of the user's own: its arrays are replaced by the saved ones. Raises `FileNotFoundError` for a
    folder without a model, `ValueError` for a damaged file, a newer format, an unknown module, or
    a `like` of another structure.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder / STRUCTURE)
    weights = folder / manifest["weights"]
    arrays = unpack(weights, sha256=manifest["sha256"], narrow=manifest["narrow"])
    if like is not None:
        return _fill(like, arrays, folder)
    try:
        return _decode(manifest["model"], arrays)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / STRUCTURE} does not describe a model of this version: {error}."
        ) from error


def _encode(node: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(node, eqx.Module):
        fields = {
            field.name: _encode(getattr(node, field.name), f"{path}.{field.name}", arrays)
            for field in dataclasses.fields(node)
        }
        kind = type(node)
        return {"module": _MODULE_NAMES.get(kind, _own_name(kind)), "fields": fields}
    if _is_array(node):
        arrays[path.lstrip(".")] = np.ascontiguousarray(node).reshape(node.shape)
        return {"array": path.lstrip(".")}
    if isinstance(node, tuple | list):
        items = [_encode(item, f"{path}.{i}", arrays) for i, item in enumerate(node)]
        return {"tuple" if isinstance(node, tuple) else "list": items}
    if isinstance(node, dict):
        if not all(isinstance(key, str) for key in node):
            raise TypeError(f"a dict in a model must have strings for keys to be saved, at {path}.")
        items = sorted(node.items())
        return {"dict": {k: _encode(v, f"{path}[{json.dumps(k)}]", arrays) for k, v in items}}
    if node is None or isinstance(node, bool | int | float | str):
        return {"value": node}
    if callable(node):
        return {"function": _FUNCTION_NAMES.get(node, _own_name(node))}
    raise TypeError(f"cannot save a {type(node).__name__}, at {path.lstrip('.')} of the model.")


def _own_name(thing: Any) -> str:
    return f"{thing.__module__}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _decode(node: dict[str, Any], arrays: dict[str, Array]) -> Any:
    if "module" in node:
        return _build(_known(MODULES, node["module"]), node["fields"], arrays)
    ((kind, content),) = node.items()
    if kind == "array":
        return arrays[content]
    if kind == "value":
        return content
    if kind == "function":
        return _known(FUNCTIONS, content)
    if kind == "dict":
        return {key: _decode(item, arrays) for key, item in content.items()}
    if kind in ("list", "tuple"):
        items = [_decode(item, arrays) for item in content]
        return tuple(items) if kind == "tuple" else items
    raise KeyError(f"unknown kind of node {kind!r}")


def _build(kind: type, fields: dict[str, Any], arrays: dict[str, Array]) -> Any:
    """An instance with these fields, as a pytree is unflattened: `__init__` does not run.

    A field with a default may be missing: a later version of hvax has added it.
    """
    known = {field.name: field.default for field in dataclasses.fields(kind)}
    added = {n for n in known.keys() - fields.keys() if known[n] is not dataclasses.MISSING}
    if set(fields) != known.keys() - added:
        raise KeyError(f"{kind.__name__} has the fields {list(known)}, the file {list(fields)}")
    module: Any = object.__new__(kind)
    for name, default in known.items():
        value = default if name in added else _decode(fields[name], arrays)
        object.__setattr__(module, name, value)
    return module


def _known(table: dict[str, Any], name: str) -> Any:
    if name not in table:
        raise ValueError(
            f"the saved model holds {name}, which is not hvax's own. Build a model of the "
            "same structure and pass it: load(folder, like=model)."
        )
    return table[name]


def _fill(like: eqx.Module, arrays: dict[str, Array], folder: Path) -> Any:
    """`like` with every array replaced by the saved one of its path."""
    own: dict[str, np.ndarray] = {}
    _encode(like, "", own)
    for name in sorted(set(own) | set(arrays)):
        there, here = arrays.get(name), own.get(name)
        if there is None or here is None or there.shape != here.shape:
            raise ValueError(
                f"`like` does not have the structure of the model in {folder}: at {name} the file "
                f"has {_shape(there)}, `like` has {_shape(here)}."
            )
    paths = iter(own)
    return jax.tree.map(lambda leaf: arrays[next(paths)] if _is_array(leaf) else leaf, like)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _shape(array: Any) -> str:
    return "nothing" if array is None else f"shape {array.shape}"


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no model in {path.parent}: {path.name} is missing.")
    try:
        manifest = unsealed(path.read_bytes())
        version = manifest["format"]
        if version == FORMAT:
            for name, kind in _MANIFEST.items():
                if not isinstance(manifest[name], kind):
                    raise ValueError(f"{name!r} is no {kind.__name__}")
            if Path(manifest["weights"]).name != manifest["weights"]:
                raise ValueError(
                    f"the weights file {manifest['weights']!r} lies outside the folder"
                )
            return manifest
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    raise ValueError(
        f"{path} has format {version!r}; this version of hvax reads format {FORMAT}. "
        "Install a newer hvax to load it."
    )
