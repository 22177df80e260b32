"""A model -> JSON and named arrays."""

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
    shown,
    take_apart,
)


def encode(thing: Any, arrays: dict[str, np.ndarray], path: str = "") -> dict[str, Any]:
    """The JSON of a thing at a path of a model; its arrays are put into `arrays`, by path.

    Raises `TypeError` for what cannot be saved.
    """
    node = take_apart(thing, path)
    if node.kind in (*ARRAYS, KEY):
        stored = jax.random.key_data(thing) if node.kind == KEY else thing
        arrays[shown(path)] = np.ascontiguousarray(stored).reshape(stored.shape)
        implementation = {IMPLEMENTATION: node.implementation} if node.kind == KEY else {}
        return {node.kind: shown(path), **implementation}
    if node.kind in (VALUE, FUNCTION):
        return {node.kind: node.content}
    children = {
        label: encode(child, arrays, node.path_of(label, path))
        for label, child in node.children.items()
    }
    if node.kind in NAMED:
        return {node.kind: node.content, "fields": children}
    return {node.kind: list(children.values()) if node.kind in SEQUENCES else children}
