"""A cache of compiled programs, shared by all trainings of a process.

Compiling a training step can take longer than training on small data. The cache is keyed by
function, argument structure, shapes, dtypes and JAX settings, so the second `fit` of a sweep
compiles nothing. `jax.jit` cannot do this, as it keys on the identity of a closure. Only the most
recently used programs are kept: each takes memory and memory maps, of which Linux allows a process
65,530.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, cast

import equinox as eqx
import jax
from jaxtyping import PyTree

MAX_PROGRAMS = 24
"""Programs that are kept; the least recently used one is dropped first."""

# JAX settings that change what a function compiles to.
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
    """`function` compiled for arguments of these shapes, from the cache if possible.

    Two functions are the same if they are equal and have equal hashes. `donate` is that of
    `equinox.filter_jit`: donated buffers are destroyed by a call. With JAX_DISABLE_JIT the function
    itself is returned, so that a debugger can step through it.
    """
    jitted: Any = eqx.filter_jit(_new_function(function), donate=cast(Any, donate))
    if cast(Any, jax.config).jax_disable_jit:
        return jitted
    key = _key(function, arguments, donate)
    if key is None:
        return jitted.lower(*arguments).compile()
    return _cached(_programs, key, lambda: jitted.lower(*arguments).compile())


def output_shapes(function: Any, *arguments: PyTree) -> PyTree:
    """Shapes and dtypes of `function(*arguments)`, by tracing; cached."""
    key = _key(function, arguments, "shapes")
    if key is None:
        return eqx.filter_eval_shape(function, *arguments)
    return _cached(_shapes, key, lambda: eqx.filter_eval_shape(function, *arguments))


def _cached(known: OrderedDict[Hashable, Any], key: Hashable, make: Callable[[], Any]) -> Any:
    if key not in known:
        known[key] = make()
        while len(known) > MAX_PROGRAMS:
            known.popitem(last=False)
    known.move_to_end(key)
    return known[key]


def is_compiled(function: Any, *arguments: PyTree, donate: str = "none") -> bool:
    """Whether `program` with these arguments is in the cache."""
    return _key(function, arguments, donate) in _programs


def clear_programs() -> None:
    """Empty the cache."""
    _programs.clear()
    _shapes.clear()


def _new_function(function: Any) -> Callable:
    """A new function object: JAX's own caches are per function and die with it."""

    def program_of(*arguments: PyTree) -> PyTree:
        return function(*arguments)

    return program_of


def _key(function: Any, arguments: PyTree, donate: str) -> Hashable | None:
    """The cache key; None if a static part is not hashable, such as a NumPy array in a module."""
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
    # The type too, as 1 == 1.0 == True. A weakly typed array compiles differently from a strong
    # one.
    if not eqx.is_array(leaf):
        return type(leaf), leaf
    if not isinstance(leaf, jax.Array):
        return leaf.shape, leaf.dtype
    weak = getattr(leaf, "weak_type", False)  # typed keys have none
    return leaf.shape, leaf.dtype, weak, leaf.sharding
