"""From a model to JSON and named arrays."""

from typing import Any

import jax
import numpy as np

from hvax.storage.structure.node import (
    ARRAYS,
    FUNCTION,
    IMPLEMENTATION,
    KEY,
    NAMED,
    SEQUENCES,
    VALUE,
    node_of,
    without_dot,
)


def encode(thing: Any, arrays: dict[str, np.ndarray], path: str = "") -> dict[str, Any]:
    """The JSON of the part of a model at a path. Its arrays are added to `arrays`, by path.

    Raises `TypeError` for what cannot be saved.
    """
    node = node_of(thing, path)
    if node.kind in (*ARRAYS, KEY):
        stored = jax.random.key_data(thing) if node.kind == KEY else thing
        arrays[without_dot(path)] = np.ascontiguousarray(stored).reshape(stored.shape)
        implementation = {IMPLEMENTATION: node.implementation} if node.kind == KEY else {}
        return {node.kind: without_dot(path), **implementation}
    if node.kind in (VALUE, FUNCTION):
        return {node.kind: node.content}
    children = {
        label: encode(child, arrays, node.path_of(label, path))
        for label, child in node.children.items()
    }
    if node.kind in NAMED:
        return {node.kind: node.content, "fields": children}
    return {node.kind: list(children.values()) if node.kind in SEQUENCES else children}
