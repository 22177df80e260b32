"""Check that a saved model and the `like` that it is loaded into have the same structure."""

import json
from typing import Any

import jax

from hvax.storage.structure.names import is_name_of
from hvax.storage.structure.node import (
    ARRAYS,
    FUNCTION,
    KEY,
    NAMED,
    VALUE,
    Mismatch,
    Node,
    place,
    short,
)


def check_same_node(saved: Node, own: Node, like: Any, path: str) -> None:
    """Raise `Mismatch` where a node of the file and that of `like` differ, but for their children:
    in kind, name, value or shape."""
    if not _is_same(saved, own, like):
        raise _mismatch(_describe(saved), _describe(own), path)


def check_same_children(saved: Node, own: Node, path: str) -> None:
    """Raise `Mismatch` where the children of two nodes have other labels, or another order."""
    for label in [*saved.children, *own.children]:
        if label not in own.children or label not in saved.children:
            has = ["more" if label in node.children else "nothing" for node in (saved, own)]
            raise _mismatch(has[0], has[1], saved.path_of(label, path))
    orders = [f"the order {', '.join(node.children)}" for node in (saved, own)]
    if saved.kind != "dict" and orders[0] != orders[1]:  # JAX sorts a dict by its keys
        raise _mismatch(orders[0], orders[1], path)


def _is_same(saved: Node, own: Node, like: Any) -> bool:
    if saved.kind in ARRAYS and own.kind in ARRAYS:
        return saved.content.shape == own.content.shape
    if saved.kind != own.kind:
        return False
    if saved.kind == KEY:
        data = jax.random.key_data(own.content)
        same = saved.content.shape == data.shape and saved.content.dtype == data.dtype
        return same and saved.implementation == own.implementation
    if saved.kind == VALUE:
        return json.dumps(saved.content) == json.dumps(own.content)
    if saved.kind == "partial":
        return saved.content == own.content
    if saved.kind == FUNCTION:
        return is_name_of(saved.content, like)
    return saved.kind not in NAMED or is_name_of(saved.content, type(like))


def _mismatch(saved: str, own: str, path: str) -> Mismatch:
    return Mismatch(
        f"`like` does not have the structure of the saved model: at {place(path)} the file has "
        f"{saved}, `like` has {own}. Build `like` as the saved model was built."
    )


def _describe(node: Node) -> str:
    """A node, for a message."""
    if node.kind in ARRAYS:
        return f"shape {node.content.shape}"
    if node.kind == KEY:
        return f"a PRNG key of {node.implementation}"
    if node.kind in (VALUE, FUNCTION) or node.kind in NAMED:
        return short(node.content)
    return f"a {node.kind} of {len(node.children)}"
