"""Several draws of every example of a batch, with gradients that ignore failed draws.

The (S, batch) draws are computed as the S * batch rows of one larger batch, not by a second vmap:
that takes 0.6 of the time in XLA's CPU backend.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, UInt32

from hvax.models.latent_model import AbstractLatentModel, Draw, map_examples
from hvax.models.posterior import Pathwise, add_to_floats, batched_zero, with_weighted_gradient

KeyData = UInt32[Array, "samples batch words"]
"""Random keys as plain integers (`jax.random.key_data`).

The backward pass draws from the keys of the forward pass once more, on purpose, which JAX's check
against key reuse would refuse for typed keys.
"""


def many_draws(
    model: AbstractLatentModel,
    posterior: PyTree,
    target: Array,
    given: Mapping[str, Array],
    *,
    key: PRNGKeyArray,
    num_samples: int,
    dreg: bool,
) -> tuple[Draw, Float[Array, "samples batch"] | None]:
    """S draws from each posterior of a batch, scored at its target: a `Draw` with axes (S, batch).

    Draw s of example i uses `split(split(key, S)[s], batch)[i]`. `given` is the batch's condition
    and mask, if any. With `dreg` the gradient is doubly reparameterized, and zeros (S, batch) are
    returned that the caller adds to the bounds (see `with_weighted_gradient`); else None.

    A draw whose log w is not finite contributes nothing to a gradient, not even NaN, as long as at
    least one other draw of its example succeeded.
    """
    batch = len(target)
    keys = jax.random.split(key, num_samples) if num_samples > 1 else key[None]
    keys = jax.vmap(lambda key: jax.random.split(key, batch))(keys)
    wrap: Callable[[Array], Array] = jnp.asarray  # raw keys need no wrapping
    if jax.dtypes.issubdtype(keys.dtype, jax.dtypes.prng_key):
        wrap = partial(jax.random.wrap_key_data, impl=jax.random.key_impl(keys))
        keys = jax.random.key_data(keys)

    def in_rows(a: Any) -> Any:
        if not eqx.is_array(a):  # such as a function in a user's own posterior
            return a
        return jnp.broadcast_to(a, (num_samples, *a.shape)).reshape(-1, *a.shape[1:])

    rows, scored = jax.tree.map(in_rows, (posterior, (target, dict(given))))
    drawn_from, of_weight, of_bound = rows, None, None
    if dreg:
        drawn_from, of_weight, of_bound = with_weighted_gradient(
            rows, batched_zero(model, posterior, scored, keys)
        )
        drawn_from = Pathwise(rows, drawn_from)
    draws = _draw_rows(model, drawn_from, scored, keys, wrap)._replace(posterior=rows)
    if of_weight is not None:
        draws = draws._replace(
            log_posterior=draws.log_posterior - of_weight, log_weight=draws.log_weight + of_weight
        )

    def in_draws(a: Any) -> Any:
        return a.reshape(num_samples, batch, *a.shape[1:]) if eqx.is_array(a) else a

    return jax.tree.map(in_draws, (draws, of_bound))


def _draw_rows(
    model: AbstractLatentModel,
    posterior: PyTree,
    scored: tuple[Array, dict[str, Array]],
    words: KeyData,
    wrap: Callable[[Array], Array],
) -> Draw:
    """The draws of all rows, without their posteriors; failed draws get no gradient."""
    inexact, rest = eqx.partition((model, posterior, scored), eqx.is_inexact_array)
    arrays, static = eqx.partition(rest, eqx.is_array)

    def draw(inexact: PyTree, arrays: PyTree, words: KeyData) -> Draw:
        model, posterior, scored = eqx.combine(inexact, arrays, static)
        keys = wrap(words.reshape(-1, words.shape[-1]))
        drawn = map_examples(
            lambda q, scored, key: model.draw(q, scored[0], key=key, **scored[1]),
            posterior,
            scored,
            keys,
        )
        zero = batched_zero(inexact, arrays, words)
        return add_to_floats(zero, drawn._replace(posterior=None))

    if len(words) == 1:  # no other draw could replace a failed one, and its bound fails anyway
        return draw(inexact, arrays, words)
    return _with_failures_replaced(draw, inexact, arrays, words)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _with_failures_replaced(
    draw: Callable, inexact: PyTree, arrays: PyTree, words: KeyData
) -> PyTree:
    return draw(inexact, arrays, words)


def _forward(draw: Callable, inexact: PyTree, arrays: PyTree, words: KeyData) -> tuple[PyTree, Any]:
    outputs, pullback = jax.vjp(lambda inexact: draw(inexact, arrays, words), inexact)
    failed = ~jnp.isfinite(outputs.log_weight).reshape(words.shape[:2])
    return outputs, (pullback, inexact, arrays, words, failed)


def _backward(draw: Callable, kept: Any, cotangents: PyTree) -> tuple[PyTree, None, None]:
    """The cotangents of the model, with nothing from failed draws."""
    # Setting the cotangent of a failed draw to 0 is not enough: 0 times an infinite derivative is
    # NaN. So if any draw failed, the forward pass is repeated with the key of a successful draw of
    # the same example in place of the failed one, whose cotangent is then a harmless 0. `cond`
    # makes the usual case, without failures, free of that second pass.
    pullback, inexact, arrays, words, failed = kept

    def recomputed() -> PyTree:
        others = _replacement_keys(failed, words)
        _, again = jax.vjp(lambda inexact: draw(inexact, arrays, others), inexact)
        of_rows = failed.reshape(-1)
        return again(jax.tree.map(partial(_zero_where, of_rows), cotangents))[0]

    return jax.lax.cond(jnp.any(failed), recomputed, lambda: pullback(cotangents)[0]), None, None


_with_failures_replaced.defvjp(_forward, _backward)


def _replacement_keys(failed: Bool[Array, "samples batch"], words: KeyData) -> KeyData:
    """The draws' keys, with each failed draw's replaced by its example's first successful one."""
    sample, example = jnp.indices(failed.shape)
    chosen = jnp.where(failed, jnp.argmin(failed, axis=0)[None], sample)
    return words[chosen, example]


def _zero_where(rows: Bool[Array, " rows"], a: Array) -> Array:
    return jnp.where(rows.reshape(-1, *(1,) * (a.ndim - 1)), 0.0, a)
