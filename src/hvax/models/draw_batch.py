"""The draws of a model for a batch of examples."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from hvax.batch import Batch
from hvax.checks import check_key, count, real_array
from hvax.models.data_point import ShapeMismatch
from hvax.models.latent_model import (
    AbstractLatentModel,
    Draw,
    batch_of_posteriors,
    check_model,
    map_examples,
)
from hvax.models.many_draws import many_draws

Examples = Shaped[ArrayLike, "batch ..."] | Batch


def draw_batch(
    model: AbstractLatentModel,
    x: Examples,
    target: ArrayLike | None = None,
    *,
    key: PRNGKeyArray,
    num_samples: int = 1,
) -> Draw:
    """Draws from the model for a batch: a `Draw` with a leading batch axis.

    Example i uses the i-th key of `jax.random.split(key, batch)`. With S = `num_samples` > 1 an
    axis of S draws comes before the batch axis, and draw s splits the s-th key of
    `jax.random.split(key, S)` instead of `key`.
    """
    return draws_of_batch(model, as_batch(x, target), key, num_samples, "standard")[0]


def as_batch(x: Any, target: Any = None) -> Batch:
    """A `Batch` of JAX arrays of real numbers, all with the same number (>= 1) of examples.

    Raises `TypeError` for what is not an array of real numbers, `ValueError` for other lengths.
    """
    if isinstance(x, Batch):
        if target is not None:
            raise TypeError("target must be None when x is a Batch. Put it into the Batch.")
        batch = x
    else:
        batch = Batch(x, target)
    arrays = {
        name: real_array(part, name) for name, part in batch._asdict().items() if part is not None
    }
    first = arrays["x"]
    if first.ndim == 0 or len(first) == 0:
        raise ValueError(f"x must be a batch with at least one example, got shape {first.shape}.")
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) != len(first):
            raise ValueError(
                f"{name} must have as many examples as x, {len(first)}, got {array.shape}."
            )
    return Batch(**arrays)


def draws_of_batch(
    model: AbstractLatentModel, batch: Batch, key: PRNGKeyArray, num_samples: int, estimator: str
) -> tuple[Draw, Float[Array, "*samples batch"] | None]:
    """`draw_batch`, plus the zeros that "dreg" needs added to the bound (see `many_draws`)."""
    check_model(model)
    check_key(key)
    num_samples = count(num_samples, "num_samples")
    if estimator not in ("standard", "dreg"):
        raise ValueError(f"estimator must be 'standard' or 'dreg', got {estimator!r}.")
    dreg = estimator == "dreg"
    given = batch.given()
    posterior = batch_of_posteriors(model, batch.x, given)
    try:
        if num_samples == 1 and not dreg:
            keys = jax.random.split(key, len(batch.x))
            drawn = map_examples(
                lambda q, target, given, key: model.draw(q, target, key=key, **given),
                posterior, batch.scored, given, keys,
            )  # fmt: skip
            return drawn, None
        drawn, zero = many_draws(
            model, posterior, batch.scored, given, key=key, num_samples=num_samples, dreg=dreg
        )
    except ShapeMismatch as error:
        raise ValueError(f"target (by default x) does not suit the decoder: {error}") from error
    if num_samples > 1:
        return drawn, zero
    return jax.tree.map(lambda a: a[0] if eqx.is_array(a) else a, (drawn, zero))


def each(draws: Draw, function: Callable[[Draw], Array]) -> Shaped[Array, "*samples batch"]:
    """Apply a function of one draw to every draw of a batch (and of S samples)."""
    for _ in range(draws.log_weight.ndim):
        function = partial(map_examples, function)
    return function(draws)
