"""Metropolis-corrected HMC chains through a sequence of annealed densities f_b (see ais.py)."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.hamiltonian.bridge import Ends, between, both_ends
from hvax.hamiltonian.gradient import ReverseMode
from hvax.hamiltonian.hmc import hmc_proposal
from hvax.hamiltonian.leapfrog import PhaseState
from hvax.models.latent_model import AbstractLatentModel, posterior_of, potential_of
from hvax.models.posterior import Posterior
from hvax.models.prior import AbstractPrior

Start = Literal["prior", "posterior"]

TARGET_ACCEPTANCE = 0.65
_BLOCK = 50  # temperatures of one compiled call
_GAIN, _FIRST_STEP = 0.1, 0.1  # of the adaptation of log step sizes


class Chains(NamedTuple):
    """One chain, or many as rows; the chains of a data point are consecutive rows."""

    z: Float[Array, "*rows d"]
    ends: Ends  # -log p(x, z) and -log p_0
    log_weight: Float[Array, "*rows"]


class Swept(NamedTuple):
    """The result of a sweep over all its temperatures."""

    log_weight: NDArray[np.float64]  # (points, chains)
    acceptance: NDArray[np.float64]  # (temperatures, points)
    steps: NDArray[np.float64]  # (points, temperatures): the step sizes used


class Sweep(eqx.Module):
    """Moves the chains of some data points through a sequence of temperatures."""

    vae: AbstractLatentModel
    start: Start = eqx.field(static=True)
    num_leapfrog: int = eqx.field(static=True)

    def started(self, x: Batch, num_chains: int, *, key: PRNGKeyArray) -> Chains:
        """Chains at independent draws from p_0."""
        return _started(self, x, jax.random.split(key, len(x.x) * num_chains))

    def repeated(self, x: Batch, z: Float[Array, "points d"], num_chains: int) -> Chains:
        """Chains that start at the given z of their point."""
        return _chains_at(self, x, jnp.repeat(z, num_chains, axis=0))

    def __call__(
        self,
        x: Batch,
        chains: Chains,
        b: NDArray[np.float64],
        before: NDArray[np.float64],
        after: NDArray[np.float64],
        steps: NDArray[np.float64] | None,
        key: PRNGKeyArray,
        bar: Any,
    ) -> Swept:
        """One transition at each temperature of `b`.

        log w grows by `before` times log p(x, z) - log p_0(z) before each transition, and by
        `after` times the same after it: forward chains use the first, reverse chains the second.
        `steps` (points, temperatures) are the step sizes; with None they are adapted.
        """
        log_step = jnp.full(len(x.x), np.log(_FIRST_STEP), dtype=float)
        acceptance, used = [], []
        for t in range(0, len(b), _BLOCK):
            here = slice(t, t + _BLOCK)
            given = None if steps is None else jnp.asarray(steps[:, here].T, dtype=float)
            plan = jnp.asarray(np.stack([b[here], before[here], after[here]], axis=1), dtype=float)
            chains, log_step, report = _block(
                self, x, chains, log_step, plan, given, jax.random.fold_in(key, t)
            )
            acceptance.append(np.asarray(report[0], np.float64))
            used.append(np.asarray(report[1], np.float64))
            bar.update(len(plan))
        return Swept(
            np.asarray(chains.log_weight, np.float64).reshape(len(x.x), -1),
            np.concatenate(acceptance),
            np.concatenate(used).T,
        )

    def densities(self, row: Batch) -> Callable[[Array], Ends]:
        """z -> both end densities at z for one data point, with gradients."""
        potential = potential_of(self.vae, row)
        exact = ReverseMode().value_and_grad
        start: AbstractPrior | Posterior = self.vae.prior
        if self.start == "posterior":
            start = posterior_of(self.vae, row)
        return both_ends(
            exact(lambda z: (potential(z)[0], None)), exact(lambda z: (-start.log_prob(z), None))
        )


@eqx.filter_jit
def _started(sweep: Sweep, x: Batch, keys: Key[Array, " rows"]) -> Chains:
    def one(row: Batch, key: PRNGKeyArray) -> Array:
        posterior = posterior_of(sweep.vae, row)
        if sweep.start == "posterior":
            return posterior.sample_and_log_prob(key=key)[0]
        return sweep.vae.prior.sample(posterior.mean.size, key=key)

    return _chains_at(sweep, x, jax.vmap(one)(_per_row(x, len(keys)), keys))


@eqx.filter_jit
def _chains_at(sweep: Sweep, x: Batch, z: Float[Array, "rows d"]) -> Chains:
    ends = jax.vmap(lambda row, z: sweep.densities(row)(z))(_per_row(x, len(z)), z)
    return Chains(z, ends, jnp.zeros_like(ends.target.potential))


@eqx.filter_jit
def _block(
    sweep: Sweep,
    x: Batch,
    chains: Chains,
    log_step: Float[Array, " points"],
    plan: Float[Array, "block 3"],  # b, before, after
    steps: Float[Array, "block points"] | None,
    key: PRNGKeyArray,
) -> tuple[Chains, Array, tuple[Array, Array]]:
    """A block of temperatures of a sweep in one compiled call."""
    rows = len(chains.log_weight)
    keys, x = jax.random.split(key, len(plan)), _per_row(x, rows)

    def move(row: Batch, chain: Chains, step: Array, b: Array, key: PRNGKeyArray) -> Any:
        return _transition(sweep.densities(row), chain, b, step, sweep.num_leapfrog, key=key)

    move_all = jax.vmap(move, in_axes=(0, 0, 0, None, 0))

    def one(carry: tuple[Chains, Array], now: Any) -> tuple[tuple[Chains, Array], Any]:
        (chains, log_step), ((b, before, after), given, key) = carry, now
        step = jnp.exp(log_step) if given is None else given
        chains = _weighted(chains, before)
        moved = move_all(x, chains, _per_row(step, rows), b, jax.random.split(key, rows))
        chains, accepted = moved
        chains = _weighted(chains, after)
        acceptance, some = _mean_of_alive(accepted, chains, len(log_step))
        # Stochastic approximation: longer steps if too many are accepted, shorter if too few.
        change = jnp.where(some, acceptance - TARGET_ACCEPTANCE, 0.0)
        return (chains, log_step + _GAIN * change), (acceptance, step)

    (chains, log_step), report = jax.lax.scan(one, (chains, log_step), (plan, steps, keys))
    return chains, log_step, report


def _per_row(values: PyTree, rows: int) -> Any:
    """Repeat each point's values for each of its chains."""
    return jax.tree.map(
        lambda a: jnp.repeat(a, rows // len(a), axis=0, total_repeat_length=rows), values
    )


def _weighted(chains: Chains, weight: Array) -> Chains:
    """The chains with log w increased by `weight` times log p(x, z) - log p_0(z)."""
    # If the decoder overflows, log w becomes and stays non-finite: the chain has failed. A weight
    # of 0 then gives NaN instead of -inf, which counts as the same: such a chain never moves.
    ratio = chains.ends.start.potential - chains.ends.target.potential
    return chains._replace(log_weight=chains.log_weight + weight * ratio)


def _mean_of_alive(accepted: Array, chains: Chains, points: int) -> tuple[Array, Array]:
    """Each point's mean acceptance over chains that can move (0 if none), and whether any can."""
    # A chain that starts where the decoder overflows never moves. Counted as rejections, such
    # chains would shrink the step size of the others without limit.
    alive = jnp.isfinite(chains.ends.target.potential).reshape(points, -1)
    number = jnp.sum(alive, axis=1)
    total = jnp.sum(accepted.reshape(points, -1) * alive, axis=1)
    return total / jnp.maximum(number, 1), number > 0


def _transition(
    densities: Callable[[Array], Ends],
    chain: Chains,
    b: Float[Array, ""],
    step_size: Float[Array, ""],
    num_leapfrog: int,
    *,
    key: PRNGKeyArray,
) -> tuple[Chains, Float[Array, ""]]:
    """One HMC transition that leaves f_b invariant, and its acceptance probability.

    A trajectory whose energy is not finite is rejected.
    """
    rho_key, accept_key = jax.random.split(key)

    rho = jax.random.normal(rho_key, chain.z.shape, chain.z.dtype)
    start = PhaseState(chain.z, rho, *between(b, chain.ends))
    end, accept, probability = hmc_proposal(
        lambda z: between(b, densities(z)), start, step_size, num_leapfrog, key=accept_key
    )
    z, ends = jax.tree.map(
        lambda new, old: jnp.where(accept, new, old), (end.z, end.ends), (chain.z, chain.ends)
    )
    return Chains(z, ends, chain.log_weight), probability
