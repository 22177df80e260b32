"""Annealed importance sampling with Hamiltonian Monte Carlo: the gold standard for log p(x).

Chains run from a start density p_0 (the prior, or q(z | x)) to the posterior through

    log f_b(z) = (1 - b) log p_0(z) + b log p(x, z),   0 = b_0 < b_1 < ... < b_T = 1
    log w = sum_t (b_t - b_{t-1}) (log p(x, z_{t-1}) - log p_0(z_{t-1}))

where z_t follows z_{t-1} by a Metropolis-corrected HMC transition that leaves f_{b_t} invariant.
E[w] = p(x), so log mean w is a stochastic lower bound. Run backwards from an exact posterior draw,
which data simulated from the model come with, E[1 / w] = 1 / p(x): an upper bound. The truth lies
between. Neal (2001); Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood" (2015).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import NDArray
from tqdm import tqdm

from hvax.data.examples import as_pair
from hvax.door import check_key, count
from hvax.evaluation.annealing import Start, Sweep
from hvax.models.hvae import plain_vae

_POINTS = 25  # data points of one compiled call
_SETTLE = 100  # transitions of the pilot at b_1, before it moves


class AIS(NamedTuple):
    """Per data point: bounds on log p(x) in nats, and how the chains did."""

    lower: NDArray[np.float64]  # log (1/C) sum w over chains
    upper: NDArray[np.float64] | None  # -log (1/C) sum 1/w of the reverse chains
    acceptance: float  # mean over chains and temperatures of the forward run


def annealed_importance_sampling(
    model: PyTree,
    data: Any,
    *,
    key: PRNGKeyArray,
    start: Start = "prior",
    num_temperatures: int = 1000,
    num_chains: int = 16,
    num_leapfrog: int = 10,
    posterior_draws: Float[Array, "n d"] | None = None,
    progress: bool = True,
) -> AIS:
    """Stochastic bounds on log p(x) of each data point, for the decoder and prior of a model.

    `start` is p_0: the prior or the encoder's q(z | x). Step sizes, one per point and temperature,
    are adapted in a pilot run to an acceptance of 0.65 and then frozen. The upper bound is there
    where `posterior_draws` gives an exact draw from p(z | x) for each point, as `simulate` does.
    Raises `ValueError` for numbers < 1 and an unknown start.
    """
    for name, number in (
        ("num_temperatures", num_temperatures),
        ("num_chains", num_chains),
        ("num_leapfrog", num_leapfrog),
    ):
        count(number, name)
    check_key(key)
    if start not in ("prior", "posterior"):
        raise ValueError(f"start must be 'prior' or 'posterior', got {start!r}.")
    vae = plain_vae(model)
    examples, *rest = as_pair(data, "data", check=vae.decoder.likelihood.check)
    if rest:
        raise ValueError("AIS takes one array of data, the x that is scored, not a pair.")
    b = temperatures(num_temperatures)
    sweep = Sweep(vae, start, num_leapfrog)
    passes = (2 if posterior_draws is None else 3) * num_temperatures + _SETTLE
    batches = -(-len(examples) // _POINTS)
    lower, upper, acceptance = [], [], []
    with tqdm(
        total=batches * passes, disable=not progress, unit="temperature", desc="AIS", leave=False
    ) as bar:
        for begin in range(0, len(examples), _POINTS):
            rows = slice(begin, begin + _POINTS)
            x, x_key = jnp.asarray(examples[rows]), jax.random.fold_in(key, begin)
            keys = jax.random.split(x_key, 6)
            # The pilot stays at b_1 until its step size has settled, and then moves.
            slow = np.concatenate([np.full(_SETTLE, b[1]), b[1:]])
            chains = sweep.started(x, num_chains, key=keys[0])
            pilot = sweep(
                x, chains, slow, np.diff(slow, prepend=b[1]), 0 * slow, None, keys[1], bar
            )
            steps = pilot.steps[:, _SETTLE:]
            chains = sweep.started(x, num_chains, key=keys[2])
            done = sweep(x, chains, b[1:], np.diff(b), 0 * b[1:], steps, keys[3], bar)
            lower.append(_log_mean_exp(done.log_weight))
            acceptance.append(done.acceptance)
            if posterior_draws is not None:
                chains = sweep.repeated(x, posterior_draws[rows], num_chains)
                back = (b[:0:-1], 0 * b[1:], np.diff(b)[::-1], steps[:, ::-1])
                upper.append(-_log_mean_exp(-sweep(x, chains, *back, keys[5], bar).log_weight))
    return AIS(
        lower=np.concatenate(lower),
        upper=np.concatenate(upper) if upper else None,
        acceptance=float(np.mean(np.concatenate(acceptance))),
    )


def simulate(
    model: PyTree, num_points: int, latent_size: int, *, key: PRNGKeyArray
) -> tuple[Array, Array]:
    """Data points from the model itself, each with the z it came from: an exact posterior draw."""
    vae = plain_vae(model)

    def one(key: PRNGKeyArray) -> tuple[Array, Array]:
        z_key, x_key = jax.random.split(key)
        z = vae.prior.sample(latent_size, key=z_key)
        return vae.decoder.likelihood.sample(vae.decoder(z), key=x_key), z

    return eqx.filter_jit(jax.vmap(one))(jax.random.split(key, num_points))


def temperatures(count: int) -> NDArray[np.float64]:
    """b_0 = 0 ... b_count = 1, sigmoidal: dense at both ends, where the densities change most."""
    t = np.tanh(2 * (2 * np.arange(count + 1) / count - 1))
    return (t - t[0]) / (t[-1] - t[0])


def _log_mean_exp(log_w: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.logaddexp.reduce(log_w, axis=1) - np.log(log_w.shape[1])
