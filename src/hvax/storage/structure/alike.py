"""Whether a saved model and the `like` that it is loaded into are of one structure."""

import json
from typing import Any

import jax

from hvax.storage.structure.names import is_named
from hvax.storage.structure.node import (
    ARRAYS,
    FUNCTION,
    KEY,
    NAMED,
    VALUE,
    Node,
    NotOfThis,
    at,
    short,
)


def check_alike(there: Node, here: Node, like: Any, path: str) -> None:
    """Raises `NotOfThis` where a node of the file and that of `like` differ in themselves."""
    if not _are_alike(there, here, like):
        raise _differ(_told(there), _told(here), path)


def check_children(there: Node, here: Node, path: str) -> None:
    """Raises `NotOfThis` where they hold things under other labels, or in another order."""
    for label in [*there.children, *here.children]:
        if label not in here.children or label not in there.children:
            has = ["more" if label in node.children else "nothing" for node in (there, here)]
            raise _differ(has[0], has[1], there.path_of(label, path))
    saved, own = (f"the order {', '.join(node.children)}" for node in (there, here))
    if there.kind != "dict" and saved != own:  # of a dict's order JAX keeps nothing
        raise _differ(saved, own, path)


def _are_alike(there: Node, here: Node, like: Any) -> bool:
    if there.kind in ARRAYS and here.kind in ARRAYS:
        return there.content.shape == here.content.shape
    if there.kind != here.kind:
        return False
    if there.kind == KEY:
        data = jax.random.key_data(here.content)
        same = there.content.shape == data.shape and there.content.dtype == data.dtype
        return same and there.implementation == here.implementation
    if there.kind == VALUE:
        return json.dumps(there.content) == json.dumps(here.content)
    if there.kind == "partial":
        return there.content == here.content
    if there.kind == FUNCTION:
        return is_named(there.content, like)
    return there.kind not in NAMED or is_named(there.content, type(like))


def _differ(there: str, here: str, path: str) -> NotOfThis:
    return NotOfThis(
        f"`like` does not have the structure of the saved model: at {at(path)} the file has "
        f"{there}, `like` has {here}. Build `like` as the saved model was built."
    )


def _told(node: Node) -> str:
    """A node, for a message."""
    if node.kind in ARRAYS:
        return f"shape {node.content.shape}"
    if node.kind == KEY:
        return f"a PRNG key of {node.implementation}"
    if node.kind in (VALUE, FUNCTION) or node.kind in NAMED:
        return short(node.content)
    return f"a {node.kind} of {len(node.children)}"
