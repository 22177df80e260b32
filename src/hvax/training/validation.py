"""The bound on held-out data during training: the same noise at every call, each point once."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from hvax.data.batches import padded_batches
from hvax.data.examples import Examples
from hvax.models.hvae import guarded_log_weight, has_flow
from hvax.objectives import finite_or_zero_weight
from hvax.training.compiled_steps import compiled


class Validation:
    """The mean log w of a model over held-out examples, with prefactors at one; and with S > 1
    draws of each, the mean log (1/S) sum_s w_s."""

    def __init__(
        self,
        parts: tuple[Examples, ...],
        *,
        batch_size: int,
        key: PRNGKeyArray,
        num_samples: int = 1,
    ):
        self._parts = parts
        self._num_samples = num_samples
        self._batch_size = min(batch_size, len(parts[0]))
        self._key = key
        self._compiled: Any = None
        self.seconds_compiling = 0.0

    def __call__(self, model: PyTree) -> dict[str, float]:
        """validation_elbo in nats, with S > 1 validation_bound, and for a flow the fraction of
        diverged trajectories."""
        n = len(self._parts[0])
        totals: dict[str, float] = {}
        for indices, mask in padded_batches(n, self._batch_size):
            batch = tuple(jnp.asarray(part.seen(indices)) for part in self._parts)
            arguments = (model, batch, self._key, jnp.asarray(indices, jnp.int32), mask)
            if self._compiled is None:
                began = time.perf_counter()
                self._compiled = compiled(_sums, *arguments, self._num_samples)
                self.seconds_compiling = time.perf_counter() - began
            sums = self._compiled(*arguments, self._num_samples)
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        return {f"validation_{name}": total / n for name, total in totals.items()}


def _sum_over_batch(
    model: PyTree,
    batch: tuple[Array, ...],
    key: PRNGKeyArray,
    indices: Array,
    mask: Bool[Array | np.ndarray, " batch"],
    num_samples: int,
) -> dict[str, Float[Array, ""]]:
    def draw(key: PRNGKeyArray, batch: tuple[Array, ...]) -> dict[str, Any]:
        outputs = model(*batch, key=key, latent=True)
        log_w, space = outputs.log_weight, getattr(outputs, "phase_space", None)
        if has_flow(model):  # one trajectory that runs away is not to choose the epoch
            log_w, _ = guarded_log_weight(model, outputs, batch[-1])
        report = {"elbo": finite_or_zero_weight(log_w)}
        if space is not None:
            report["divergent"] = space.divergent.astype(log_w.dtype)
        return report

    def one(index: Array, batch: tuple[Array, ...]) -> dict[str, Any]:
        of_one = jax.random.fold_in(key, index)
        if num_samples == 1:
            return draw(of_one, batch)
        drawn = jax.vmap(lambda key: draw(key, batch))(jax.random.split(of_one, num_samples))
        bound = jax.nn.logsumexp(drawn["elbo"]) - jnp.log(num_samples)
        return {name: jnp.mean(values) for name, values in drawn.items()} | {"bound": bound}

    return jax.tree.map(lambda v: jnp.sum(jnp.where(mask, v, 0)), jax.vmap(one)(indices, batch))


_sums: Any = eqx.filter_jit(_sum_over_batch)
