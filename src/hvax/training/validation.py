"""The bound on validation data during training, with the same noise in every epoch."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from hvax.batch import Batch
from hvax.data.batches import padded_batches, shared_size
from hvax.devices import model_rows_of, place
from hvax.hamiltonian.phase_space import PhaseSpace
from hvax.models.hvae import guarded_log_weight
from hvax.models.latent_model import AbstractLatentModel, Draw, batch_of_posteriors, map_examples
from hvax.objectives import finite_or_zero_weight
from hvax.training.programs import program


class Validation:
    """The mean over validation examples of log w, and with S > 1 of log (1/S) sum_s w_s, in nats.

    These are true bounds: the loss's weights (`kl_weight`, prefactors) have no effect here.
    """

    def __init__(
        self,
        data: Batch,
        *,
        batch_size: int,
        key: PRNGKeyArray,
        num_samples: int = 1,
    ):
        self._data = data
        self._num_samples = num_samples
        self._batch_size = min(batch_size, shared_size(len(data.x)))
        self._key = key
        self._program: Any = None
        self.seconds_compiling = 0.0

    def __call__(self, model: PyTree) -> dict[str, float]:
        """`validation_elbo`, with S > 1 `validation_bound`, and for a flow `validation_divergent`.

        The first two are in nats, the third is the fraction of diverged trajectories.
        """
        n = len(self._data.x)
        totals: dict[str, float] = {}
        for indices, mask in padded_batches(n, self._batch_size):
            batch = model_rows_of(self._data, indices)
            arguments = (model, batch, self._key, place(indices.astype(np.int32)), mask)
            if self._program is None:
                began = time.perf_counter()
                self._program = program(_sum_over_batch, *arguments, self._num_samples)
                self.seconds_compiling = time.perf_counter() - began
            sums = self._program(*arguments, self._num_samples)
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        return {f"validation_{name}": total / n for name, total in totals.items()}


def _sum_over_batch(
    model: AbstractLatentModel,
    batch: Batch,
    key: PRNGKeyArray,
    indices: Array,
    mask: Bool[Array | np.ndarray, " batch"],
    num_samples: int,
) -> dict[str, Float[Array, ""]]:
    given = batch.given()
    posterior = batch_of_posteriors(model, batch.x, given)

    def one_draw(q: PyTree, target: Array, given: dict[str, Array], key: PRNGKeyArray) -> Any:
        draw = model.draw(q, target, key=key, **given)
        # Guarded, or one trajectory that runs away would decide which epoch is the best.
        log_w, _ = guarded_log_weight(model, draw, target, **given)
        return {"elbo": finite_or_zero_weight(log_w)} | _trajectory_report(draw, log_w.dtype)

    def one(q: PyTree, target: Array, given: dict[str, Array], index: Array) -> dict[str, Array]:
        # By the example's index, so that neither epoch nor batch size changes the noise.
        of_one = jax.random.fold_in(key, index)
        if num_samples == 1:
            return one_draw(q, target, given, of_one)
        keys = jax.random.split(of_one, num_samples)
        drawn = eqx.filter_vmap(lambda key: one_draw(q, target, given, key))(keys)
        bound = jax.nn.logsumexp(drawn["elbo"]) - jnp.log(num_samples)
        return {name: jnp.mean(values) for name, values in drawn.items()} | {"bound": bound}

    found = map_examples(one, posterior, batch.scored, given, indices)
    return jax.tree.map(lambda v: jnp.sum(jnp.where(mask, v, 0)), found)


def _trajectory_report(draw: Draw, dtype: Any) -> dict[str, Array]:
    if not isinstance(draw.trajectory, PhaseSpace):
        return {}
    return {"divergent": draw.trajectory.divergent.astype(dtype)}
