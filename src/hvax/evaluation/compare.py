"""Several models scored on the same data points with the same draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from hvax.batch import Batch
from hvax.checked_data import checked_data
from hvax.checks import count
from hvax.devices import place
from hvax.evaluation.batching import key_or_default
from hvax.evaluation.evaluate import evaluate
from hvax.evaluation.result import Evaluation, difference
from hvax.models.latent_model import AbstractLatentModel, check_model
from hvax.parameters import trainable


class Compared(NamedTuple):
    """One of several models, and its numbers on the data points of all."""

    scores: Evaluation
    difference: dict[str, float] | None
    """ELBO and NLL less those of the first model, point by point, with standard errors; see
    `hvax.difference`. None for the first."""
    parameters: int
    """Numbers that are trained."""


def compare(
    models: Mapping[str, AbstractLatentModel],
    data: Any,
    *,
    key: PRNGKeyArray | None = None,
    num_samples: int = 1000,
    progress: bool = True,
) -> dict[str, Compared]:
    """Score models on the same data with the same draws, and their differences to the first.

    Differences are paired over data points, so that their standard errors are far below those of
    either mean:

        compared = hvax.compare({"vae": vae, "dais": hvae}, x_test)
        compared["dais"].difference["nll"], compared["dais"].difference["nll_se"]

    `data` is what `evaluate` takes, (n, *x_shape); `num_samples` are importance samples per point;
    `key` is `jax.random.key(0)` where None. A model with float64 parameters is scored in float64,
    whatever JAX's setting, and the others in float32. Raises `ValueError` for fewer than two
    models, and before any work for data that do not suit one of them; `TypeError` for what is no
    model.
    """
    num_samples, key = count(num_samples, "num_samples"), key_or_default(key)
    if not isinstance(models, Mapping):
        raise TypeError(
            f"`models` must be a dict of models by name, got a {type(models).__name__}. Write "
            '{"vae": vae, "hvae": hvae}, for example.'
        )
    if len(models) < 2:
        raise ValueError(f"`models` must be at least two, by name, got {len(models)}.")
    for name, model in models.items():
        check_model(model, f"models[{name!r}]")
        with jax.enable_x64(_is_float64(model)):
            _check_shapes(model, name, checked_data(model, data, "data"))
    compared: dict[str, Compared] = {}
    first: Evaluation | None = None
    for name, model in models.items():
        with jax.enable_x64(_is_float64(model)):
            scores = evaluate(model, data, key=key, num_samples=num_samples, progress=progress)
        learned = eqx.filter(model, trainable(model))
        compared[name] = Compared(
            scores,
            None if first is None else difference(scores, first),
            sum(array.size for array in jax.tree.leaves(learned)),
        )
        first = scores if first is None else first
    return compared


def _check_shapes(model: AbstractLatentModel, name: str, data: Batch) -> None:
    """Raise `ValueError` where a model does not take the examples, tried on shapes alone."""
    row = place(data.map(lambda part: part.seen(slice(0, 1))[0]))

    def draw(row: Batch) -> Any:
        posterior = model.posterior(row.x, **row.given())
        return model.draw(posterior, row.scored, key=jax.random.key(0), **row.given()).log_weight

    try:
        eqx.filter_eval_shape(draw, row)
    except Exception as error:  # whatever a user's network raises for a shape it does not take
        raise ValueError(
            f"data must have examples of the shape that the model {name} takes, got "
            f"{data.x.x_shape}: {' '.join(str(error).split())[:200]}"
        ) from error


def _is_float64(model: AbstractLatentModel) -> bool:
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    return any(leaf.dtype == jnp.float64 for leaf in leaves)
