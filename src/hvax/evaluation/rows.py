"""Numbers of each row that depend on that row alone, whatever rows are computed with it.

Every compiled call has one shape, so that a row is rounded as it would be by itself, and the noise
of a row is chosen by its content: the same row has the same numbers in any data set.
"""

import zlib
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.checks import count
from hvax.data.examples import Examples
from hvax.evaluation.batching import checked_parts, in_batches, key_or_default
from hvax.evaluation.draws import draws
from hvax.evaluation.weights import log_mean_weight
from hvax.models.latent_model import AbstractLatentModel, batch_of_posteriors

_ROWS = 64  # of one compiled call
_PIECE = 4096  # rows read at a time, since data may be larger than memory


def encoder_means(model: AbstractLatentModel, data: Any) -> Float[np.ndarray, "n d"]:
    """The mean of q(z_0 | x) of each row of data, as `encode` takes them and raises."""
    parts = checked_parts(model, data)
    pieces = []
    for _, real, batch in in_batches(parts, False, "encoding", _ROWS, whole=True):
        pieces.append(np.asarray(_means(model, batch))[real])
    return np.concatenate(pieces)


def log_prob(
    model: AbstractLatentModel,
    data: Any,
    *,
    key: PRNGKeyArray | None = None,
    num_samples: int = 100,
) -> Float[np.ndarray, " n"]:
    """log p(x) of the observed values of each row in nats, by importance sampling with the flow.

        log p(x) ~ log (1/S) sum_s w_s,    S = num_samples

    Its expectation is a lower bound, which rises with S. Raises what `encode` raises.
    """
    num_samples = count(num_samples, "num_samples")
    parts = checked_parts(model, data)
    drawn = draws(
        model,
        parts,
        num_samples=num_samples,
        key=key_or_default(key),
        numbers=numbers_of_content(parts.scored),
    )
    return np.concatenate([log_mean_weight(some.per_draw.log_weight) for some in drawn])


def numbers_of_content(examples: Examples) -> NDArray[np.int64]:
    """A number >= 0 of each row, below 2^30, by its values: equal rows have equal numbers."""
    found = []
    for start in range(0, len(examples), _PIECE):
        rows = np.asarray(examples[start : start + _PIECE], np.float64)
        rows = np.where(np.isnan(rows), np.nan, rows + 0.0)  # one NaN, and one zero
        found += [zlib.crc32(np.ascontiguousarray(row).tobytes()) >> 2 for row in rows]
    return np.array(found, np.int64)


@eqx.filter_jit
def _means(model: AbstractLatentModel, batch: Batch) -> Array:
    return batch_of_posteriors(model, batch.x, batch.given()).mean
