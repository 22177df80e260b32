"""From JSON and named arrays to a model. Classes and functions are looked up by name in a table of
hvax's own: a file can import nothing.

A user's own classes and functions come from `like`, a model that the user has built. It is walked
through together with the file, and must agree with it in everything but the numbers in its arrays.
So the result is the saved model, whatever numbers `like` has.
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
from hvax.storage.structure.compare import check_same_children, check_same_node
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
    Mismatch,
    Node,
    node_of,
    place,
    short,
    without_dot,
)

NO_LIKE: Any = object()  # None may be a part of a model


class Decoder:
    """Reads the nodes of one structure.json, with the arrays of its weights file."""

    def __init__(self, arrays: Mapping[str, np.ndarray], weights: Path):
        self._arrays = dict(arrays)
        self._weights = weights

    def decode(self, record: Any, like: Any = NO_LIKE, path: str = "") -> Any:
        """The part of the model at a path, from its record in the file.

        Raises `Malformed` for a record of no model, and `Mismatch` where `like` is another model.
        """
        saved = self._parse(record, path)
        own = None if like is NO_LIKE else node_of(like, path)
        if own is not None:
            check_same_node(saved, own, like, path)
        if saved.kind == "module":
            saved = self._with_new_fields(saved, like, path)
        if own is not None:
            check_same_children(saved, own, path)
        children = {
            label: self.decode(
                child, NO_LIKE if own is None else own.children[label], saved.path_of(label, path)
            )
            for label, child in saved.children.items()
        }
        if saved.kind in ARRAYS or saved.kind == KEY:
            return self._array(saved, path)
        if saved.kind == VALUE:
            return saved.content if own is None else like
        return _build(saved, children, like, path)

    def _parse(self, record: Any, path: str) -> Node:
        """The node that a record describes; its children are records."""
        if not isinstance(record, dict):
            raise Malformed(f"at {place(path)} it has {short(record)} for a node")
        kind = next(iter(record), "")
        more = {"fields"} if kind in NAMED else {IMPLEMENTATION} if kind == KEY else set()
        if record.keys() != {kind, *more}:
            raise Malformed(f"at {place(path)} it has a node of {short(list(record))}")
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
                raise Malformed(
                    f"at {place(path)} it names the array {short(content)}, which the weights lack"
                )
            implementation = _check(record.get(IMPLEMENTATION, ""), str, path)
            return Node(kind, self._arrays[content], {}, implementation)
        if kind == VALUE:
            return Node(kind, _check(content, bool | int | float | str | None, path), {})
        if kind == FUNCTION:
            return Node(kind, _check(content, str, path), {})
        raise Malformed(f"at {place(path)} it has an unknown kind of node {short(kind)}")

    def _with_new_fields(self, node: Node, like: Any, path: str) -> Node:
        """A module's node with its fields in order. A field that is missing in the file has its
        default, if it has one: the model was saved before the field was added."""
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
                f"at {place(path)} {kind.__name__} has the fields {list(fields)}, the file "
                f"{short(list(node.children))}"
            )
        return node._replace(children=children)

    def _array(self, node: Node, path: str) -> Any:
        if node.kind == "numpy":
            return node.content
        array = on_device(node.content, without_dot(path), self._weights)
        if node.kind == "array":
            return array
        try:
            return jax.random.wrap_key_data(array, impl=node.implementation)
        except (TypeError, ValueError) as error:
            raise Malformed(
                f"at {place(path)} it has no PRNG key of {short(node.implementation)}"
            ) from error


def _class_of(node: Node, like: Any, path: str) -> Any:
    """The class of a module, namedtuple or partial."""
    if node.kind == "partial":
        if node.content not in PARTIALS:
            raise Malformed(f"at {place(path)} it has a partial of {short(node.content)}")
        return PARTIALS[node.content]
    return type(like) if like is not NO_LIKE else _look_up(MODULES, node.content)


def _look_up(table: Mapping[str, Any], name: str) -> Any:
    if name not in table:
        raise Mismatch(
            f"the saved model holds {short(name)}, which is not hvax's own. Build a model of the "
            "same structure and pass it: load(folder, like=model)."
        )
    return table[name]


def _build(node: Node, children: dict[str, Any], like: Any, path: str) -> Any:
    if node.kind == FUNCTION:
        return _look_up(FUNCTIONS, node.content) if like is NO_LIKE else like
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
        except Exception as error:  # any: a module's own checks do not expect such fields
            raise Malformed(
                f"at {place(path)} {error}. Where it was saved so, build a model of the same "
                "structure and pass it: load(folder, like=model)"
            ) from error
    return module


def _new(kind: type, path: str) -> Any:
    """An instance without its fields, as when a pytree is unflattened: `__init__` does not run."""
    try:
        return object.__new__(kind)
    except TypeError as error:  # an abstract class
        raise Malformed(f"at {place(path)} {error}") from error


def _partial(kind: type, children: dict[str, Any], path: str) -> Any:
    parts: Any = [children.get(name) for name in ("func", "args", "keywords")]
    function, args, words = parts
    whole = callable(function) and isinstance(args, tuple) and len(children) == 3
    if not whole or not isinstance(words, dict) or not all(isinstance(w, str) for w in words):
        raise Malformed(f"at {place(path)} it has no partial function")
    return kind(function, *args, **words)


def _key(label: str, path: str) -> Any:
    try:
        return _check(json.loads(label), bool | int | float | str | None, path)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"at {place(path)} it has {short(label)} for a key") from error


def _check(value: Any, kind: Any, path: str) -> Any:
    if not isinstance(value, kind):
        raise Malformed(f"at {place(path)} it has {short(value)}")
    return value
