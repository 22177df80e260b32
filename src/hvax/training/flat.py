"""The small arrays of a model as one vector.

Each array of a model takes about ten compiled kernels of an optimizer's step. For the many small
arrays of a model of a table they take longer to compile than the model itself; as one vector they
take ten in all. Large arrays stay as they are, since joining them would cost a copy per step.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree, Shaped

from hvax.checks import check_kind

SMALL = 2**14
"""Arrays of fewer numbers are joined."""


def flatten_small(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Give an optimizer the small arrays of a model as one vector, which compiles faster.

    For optimizers that treat every number alike, such as Adam and SGD with or without clipping of
    the norm: their steps are the same to rounding. One that looks at arrays by their names or
    shapes (`optax.masked`, Adafactor) would not be.

    Raises `TypeError` for what is no optimizer.
    """
    check_kind(optimizer, "optimizer", optax.GradientTransformation)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: PyTree) -> PyTree:
        return optimizer.init(join_small(params)[0])

    def update(updates: PyTree, state: PyTree, params: Any = None, **more: Any) -> Any:
        joined, split = join_small(updates)
        params = None if params is None else join_small(params)[0]
        if "grad" in more:
            more["grad"] = join_small(more["grad"])[0]
        if "value_fn" in more:
            of_model = more["value_fn"]
            more["value_fn"] = lambda joined: of_model(split(joined))
        joined, state = inner.update(joined, state, params, **more)
        return split(joined), state

    return optax.GradientTransformationExtraArgs(init, update)


def join_small(tree: PyTree) -> tuple[list[Shaped[Array, "..."]], Callable[[list], PyTree]]:
    """The arrays of a tree with the small ones joined, one vector per dtype, and the inverse."""
    leaves, structure = jax.tree.flatten(tree)
    groups: dict[str | int, list[int]] = {}
    for i, leaf in enumerate(leaves):
        groups.setdefault(str(leaf.dtype) if leaf.size < SMALL else i, []).append(i)
    ends = {name: np.cumsum([leaves[i].size for i in group]) for name, group in groups.items()}

    def split(joined: list) -> PyTree:
        found: dict[int, Array] = {}
        for (name, group), array in zip(groups.items(), joined, strict=True):
            parts = [array] if len(group) == 1 else jnp.split(array, ends[name][:-1])
            found |= dict(zip(group, parts, strict=True))
        whole = [found[i].reshape(leaf.shape) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, whole)

    return [_joined([leaves[i] for i in group]) for group in groups.values()], split


def _joined(leaves: list[Array]) -> Array:
    return leaves[0] if len(leaves) == 1 else jnp.concatenate([leaf.ravel() for leaf in leaves])
