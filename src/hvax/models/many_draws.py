"""Several draws of every example of a batch, and the gradients that a bound of them needs.

Draws are rows of one batch, not an axis of their own: XLA's CPU backend takes 0.6 of the time.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, UInt32

from hvax.models.latent_model import AbstractLatentModel, Draw, map_examples
from hvax.models.posterior import Pathwise, plus, tied, zero_of

Words = UInt32[Array, "samples batch words"]
"""Random keys as plain numbers, which may be kept and used a second time."""


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
    """S draws from each of a batch of posteriors, scored at each target: axes (S, batch).

    `given` is the batch's condition and mask, where there are any. Draw s of example i takes the
    i-th key of the split of the s-th key of `key`'s split. With `dreg` the gradient is doubly
    reparameterized, and a zero comes with each draw, which the bound of its example must add: see
    `tied`.

    A draw whose log w is not finite has no part in a gradient: nothing of it flows back, NaN
    neither, as long as another draw of its example did not fail.
    """
    batch = len(target)
    keys = jax.random.split(key, num_samples) if num_samples > 1 else key[None]
    keys = jax.vmap(lambda key: jax.random.split(key, batch))(keys)
    wrap: Callable[[Array], Array] = jnp.asarray  # old keys are plain numbers
    if jax.dtypes.issubdtype(keys.dtype, jax.dtypes.prng_key):
        wrap = partial(jax.random.wrap_key_data, impl=jax.random.key_impl(keys))
        keys = jax.random.key_data(keys)

    def in_rows(a: Any) -> Any:
        if not eqx.is_array(a):  # a function, in a posterior of the user's own
            return a
        return jnp.broadcast_to(a, (num_samples, *a.shape)).reshape(-1, *a.shape[1:])

    rows, scored = jax.tree.map(in_rows, (posterior, (target, dict(given))))
    drawn_from, of_weight, of_bound = rows, None, None
    if dreg:
        drawn_from, of_weight, of_bound = tied(rows, zero_of(model, posterior, scored, keys))
        drawn_from = Pathwise(rows, drawn_from)
    draws = _gated(model, drawn_from, scored, keys, wrap)._replace(posterior=rows)
    if of_weight is not None:
        draws = draws._replace(
            log_posterior=draws.log_posterior - of_weight, log_weight=draws.log_weight + of_weight
        )

    def in_draws(a: Any) -> Any:
        return a.reshape(num_samples, batch, *a.shape[1:]) if eqx.is_array(a) else a

    return jax.tree.map(in_draws, (draws, of_bound))


def _gated(
    model: AbstractLatentModel,
    posterior: PyTree,
    scored: tuple[Array, dict[str, Array]],
    words: Words,
    wrap: Callable[[Array], Array],
) -> Draw:
    """The draws of all rows, without their posteriors. One draw of each needs no gate: where it
    fails, so does the bound."""
    inexact, rest = eqx.partition((model, posterior, scored), eqx.is_inexact_array)
    arrays, static = eqx.partition(rest, eqx.is_array)

    def draw(inexact: PyTree, arrays: PyTree, words: Words) -> Draw:
        model, posterior, scored = eqx.combine(inexact, arrays, static)
        keys = wrap(words.reshape(-1, words.shape[-1]))
        drawn = map_examples(
            lambda q, scored, key: model.draw(q, scored[0], key=key, **scored[1]),
            posterior,
            scored,
            keys,
        )
        return plus(zero_of(inexact, arrays, words), drawn._replace(posterior=None))

    few = len(words) == 1
    return draw(inexact, arrays, words) if few else _drawn(draw, inexact, arrays, words)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _drawn(draw: Callable, inexact: PyTree, arrays: PyTree, words: Words) -> PyTree:
    return draw(inexact, arrays, words)


def _forward(draw: Callable, inexact: PyTree, arrays: PyTree, words: Words) -> tuple[PyTree, Any]:
    outputs, pullback = jax.vjp(lambda inexact: draw(inexact, arrays, words), inexact)
    failed = ~jnp.isfinite(outputs.log_weight).reshape(words.shape[:2])
    return outputs, (pullback, inexact, arrays, words, failed)


def _backward(draw: Callable, kept: Any, cotangents: PyTree) -> tuple[PyTree, None, None]:
    """A cotangent of 0 stops no NaN: 0 times an infinite derivative is one. So where a draw failed,
    all are differentiated anew with another of the same example, of weight 0, in its place."""
    pullback, inexact, arrays, words, failed = kept

    def anew() -> PyTree:
        others = _without(failed, words)
        _, again = jax.vjp(lambda inexact: draw(inexact, arrays, others), inexact)
        of_rows = failed.reshape(-1)
        return again(jax.tree.map(partial(_zero_where, of_rows), cotangents))[0]

    return jax.lax.cond(jnp.any(failed), anew, lambda: pullback(cotangents)[0]), None, None


_drawn.defvjp(_forward, _backward)


def _without(failed: Bool[Array, "samples batch"], words: Words) -> Words:
    """The keys of all draws, of a failed one that of the first draw of its example that did not."""
    sample, example = jnp.indices(failed.shape)
    chosen = jnp.where(failed, jnp.argmin(failed, axis=0)[None], sample)
    return words[chosen, example]


def _zero_where(rows: Bool[Array, " rows"], a: Array) -> Array:
    return jnp.where(rows.reshape(-1, *(1,) * (a.ndim - 1)), 0.0, a)
