"""Compiled programs, shared by all trainings of a process.

XLA takes longer to compile a training step than small data take to train. So a program is kept for
whoever asks for the same function of arguments of the same structure, shapes and dtypes: the second
`fit` of a sweep compiles nothing. Only the latest few are kept, since each takes memory, and maps
pieces of it, of which Linux gives a process 65,530.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, cast

import equinox as eqx
import jax
from jaxtyping import PyTree

MOST = 24
"""Programs that are kept; the one that was not used for longest goes first."""

# What a program depends on beside its function and its arguments.
_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_rank_promotion",
    "jax_debug_nans",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)

_programs: OrderedDict[Hashable, Callable] = OrderedDict()
_shapes: OrderedDict[Hashable, PyTree] = OrderedDict()


def program(function: Any, *arguments: PyTree, donate: str = "none") -> Callable:
    """`function`, compiled for such arguments, or as it was compiled before.

    Functions are the same where they are equal and hash equally. `donate` is that of
    `equinox.filter_jit`: a program consumes what it is donated. Where JAX_DISABLE_JIT asks for it,
    it is the function itself, so that a debugger may step through it.
    """
    jitted: Any = eqx.filter_jit(_fresh(function), donate=cast(Any, donate))
    if cast(Any, jax.config).jax_disable_jit:
        return jitted
    key = _key(function, arguments, donate)
    if key is None:
        return jitted.lower(*arguments).compile()
    return _kept(_programs, key, lambda: jitted.lower(*arguments).compile())


def output_shapes(function: Any, *arguments: PyTree) -> PyTree:
    """What `function` gives for such arguments, in shapes and dtypes; traced once."""
    key = _key(function, arguments, "shapes")
    if key is None:
        return eqx.filter_eval_shape(function, *arguments)
    return _kept(_shapes, key, lambda: eqx.filter_eval_shape(function, *arguments))


def _kept(known: OrderedDict[Hashable, Any], key: Hashable, make: Callable[[], Any]) -> Any:
    if key not in known:
        known[key] = make()
        while len(known) > MOST:
            known.popitem(last=False)
    known.move_to_end(key)
    return known[key]


def is_compiled(function: Any, *arguments: PyTree, donate: str = "none") -> bool:
    """Whether `program` of these would compile nothing."""
    return _key(function, arguments, donate) in _programs


def clear_programs() -> None:
    """Lets go of all programs that are kept."""
    _programs.clear()
    _shapes.clear()


def _fresh(function: Any) -> Callable:
    """A function of its own, so that JAX's caches, which are per function, go with the program."""

    def program_of(*arguments: PyTree) -> PyTree:
        return function(*arguments)

    return program_of


def _key(function: Any, arguments: PyTree, donate: str) -> Hashable | None:
    """None where something static cannot be compared, such as a NumPy array in a module."""
    leaves, structure = jax.tree.flatten(arguments)
    described = tuple(_description(leaf) for leaf in leaves)
    settings = tuple(str(getattr(jax.config, name)) for name in _SETTINGS)
    key = (function, structure, described, donate, settings)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _description(leaf: Any) -> Hashable:
    if not eqx.is_array(leaf):
        return type(leaf), leaf
    if not isinstance(leaf, jax.Array):
        return leaf.shape, leaf.dtype
    weak = getattr(leaf, "weak_type", False)  # typed keys have none
    return leaf.shape, leaf.dtype, weak, leaf.sharding
