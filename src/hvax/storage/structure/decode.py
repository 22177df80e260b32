"""JSON and named arrays -> a model. Classes and functions are looked up, never imported.

Where a `like` is given it goes along level by level: it lends the classes and functions that are
no file's to name, and must agree with the file in everything but the numbers in its arrays. So
what comes back is the saved model, whatever `like` held.
"""

import copy
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hvax.storage.arrays import on_device
from hvax.storage.structure.alike import check_alike, check_children
from hvax.storage.structure.encode import encode
from hvax.storage.structure.fields import check_fields
from hvax.storage.structure.names import FUNCTIONS, MODULES
from hvax.storage.structure.node import (
    ARRAYS,
    FUNCTION,
    IMPLEMENTATION,
    KEY,
    MAPPINGS,
    NAMED,
    PARTIALS,
    SEQUENCES,
    VALUE,
    Malformed,
    Node,
    NotOfThis,
    at,
    short,
    shown,
    take_apart,
)

NO_LIKE: Any = object()  # where the file alone decides


class Decoder:
    """Reads the nodes of one structure.json, with the arrays of its weights file."""

    def __init__(self, arrays: Mapping[str, np.ndarray], weights: Path):
        self._arrays = dict(arrays)
        self._weights = weights

    def decode(self, record: Any, like: Any = NO_LIKE, path: str = "") -> Any:
        """The thing at a path. Raises `Malformed`, and `NotOfThis` where `like` does not suit."""
        there = self._parse(record, path)
        here = None if like is NO_LIKE else take_apart(like, path)
        if here is not None:
            check_alike(there, here, like, path)
        if there.kind == "module":
            there = self._with_new_fields(there, like, path)
        if here is not None:
            check_children(there, here, path)
        children = {
            label: self.decode(
                child, NO_LIKE if here is None else here.children[label], there.path_of(label, path)
            )
            for label, child in there.children.items()
        }
        if there.kind in ARRAYS or there.kind == KEY:
            return self._array(there, path)
        if there.kind == VALUE:
            return there.content if here is None else like
        return _put_together(there, children, like, path)

    def _parse(self, record: Any, path: str) -> Node:
        """The node that a record describes; its children are records."""
        if not isinstance(record, dict):
            raise Malformed(f"at {at(path)} it has {short(record)} for a node")
        kind = next(iter(record), "")
        more = {"fields"} if kind in NAMED else {IMPLEMENTATION} if kind == KEY else set()
        if record.keys() != {kind, *more}:
            raise Malformed(f"at {at(path)} it has a node of {short(list(record))}")
        content = record[kind]
        if kind in NAMED:
            _check(content, str, path)
            return Node(kind, content, _check(record["fields"], dict, path))
        if kind in SEQUENCES:
            return Node(kind, None, {str(i): c for i, c in enumerate(_check(content, list, path))})
        if kind in MAPPINGS:
            return Node(kind, None, _check(content, dict, path))
        if kind in ARRAYS or kind == KEY:
            if _check(content, str, path) not in self._arrays:
                raise Malformed(f"at {at(path)} it names the array {short(content)}, which is no")
            implementation = _check(record.get(IMPLEMENTATION, ""), str, path)
            return Node(kind, self._arrays[content], {}, implementation)
        if kind == VALUE:
            return Node(kind, _check(content, bool | int | float | str | None, path), {})
        if kind == FUNCTION:
            return Node(kind, _check(content, str, path), {})
        raise Malformed(f"at {at(path)} it has an unknown kind of node {short(kind)}")

    def _with_new_fields(self, node: Node, like: Any, path: str) -> Node:
        """A module's node with its fields in order; one with a default may be missing in the
        file: it was saved before the field was added."""
        kind = _class_of(node, like, path)
        fields = {field.name: field for field in dataclasses.fields(kind)}
        children = {}
        for name, field in fields.items():
            if name in node.children:
                children[name] = node.children[name]
            elif field.default is not dataclasses.MISSING:
                children[name] = encode(field.default, self._arrays, node.path_of(name, path))
            elif field.default_factory is not dataclasses.MISSING:
                new = field.default_factory()
                children[name] = encode(new, self._arrays, node.path_of(name, path))
        if children.keys() != fields.keys() or node.children.keys() - fields.keys():
            raise Malformed(
                f"at {at(path)} {kind.__name__} has the fields {list(fields)}, the file "
                f"{short(list(node.children))}"
            )
        return node._replace(children=children)

    def _array(self, node: Node, path: str) -> Any:
        if node.kind == "numpy":
            return node.content
        array = on_device(node.content, shown(path), self._weights)
        if node.kind == "array":
            return array
        try:
            return jax.random.wrap_key_data(array, impl=node.implementation)
        except (TypeError, ValueError) as error:
            raise Malformed(
                f"at {at(path)} it has no PRNG key of {short(node.implementation)}"
            ) from error


def _class_of(node: Node, like: Any, path: str) -> Any:
    """The class of a module, namedtuple or partial."""
    if node.kind == "partial":
        if node.content not in PARTIALS:
            raise Malformed(f"at {at(path)} it has a partial of {short(node.content)}")
        return PARTIALS[node.content]
    return type(like) if like is not NO_LIKE else _known(MODULES, node.content)


def _known(table: Mapping[str, Any], name: str) -> Any:
    if name not in table:
        raise NotOfThis(
            f"the saved model holds {short(name)}, which is not hvax's own. Build a model of the "
            "same structure and pass it: load(folder, like=model)."
        )
    return table[name]


def _put_together(node: Node, children: dict[str, Any], like: Any, path: str) -> Any:
    if node.kind == FUNCTION:
        return _known(FUNCTIONS, node.content) if like is NO_LIKE else like
    if node.kind in SEQUENCES:
        items = list(children.values())
        return tuple(items) if node.kind == "tuple" else items
    if node.kind in MAPPINGS:
        return MAPPINGS[node.kind]((_key(k, path), item) for k, item in children.items())
    kind = _class_of(node, like, path)
    if node.kind == "namedtuple":
        return kind._make(children.values())
    if node.kind == "partial":
        return _partial(kind, children, path)
    module = _new(kind, path) if like is NO_LIKE else copy.copy(like)
    for name, value in children.items():
        object.__setattr__(module, name, value)
    if like is NO_LIKE:
        try:
            check_fields(module)
        except Exception as error:  # of a constructor's checks, which expect what they made
            raise Malformed(
                f"at {at(path)} {error}. Where it was saved so, build a model of the same "
                "structure and pass it: load(folder, like=model)"
            ) from error
    return module


def _new(kind: type, path: str) -> Any:
    """An instance without its fields, as when a pytree is unflattened: `__init__` does not run."""
    try:
        return object.__new__(kind)
    except TypeError as error:  # abstract
        raise Malformed(f"at {at(path)} {error}") from error


def _partial(kind: type, children: dict[str, Any], path: str) -> Any:
    parts: Any = [children.get(name) for name in ("func", "args", "keywords")]
    function, args, words = parts
    whole = callable(function) and isinstance(args, tuple) and len(children) == 3
    if not whole or not isinstance(words, dict) or not all(isinstance(w, str) for w in words):
        raise Malformed(f"at {at(path)} it has no partial function")
    return kind(function, *args, **words)


def _key(label: str, path: str) -> Any:
    try:
        return _check(json.loads(label), bool | int | float | str | None, path)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"at {at(path)} it has {short(label)} for a key") from error


def _check(value: Any, kind: Any, path: str) -> Any:
    if not isinstance(value, kind):
        raise Malformed(f"at {at(path)} it has {short(value)}")
    return value
