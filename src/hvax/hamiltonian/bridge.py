"""Bridging weights b_1 ... b_K: a flow may follow densities between q, which z_0 was drawn from,
and the density of its potential.

    U_b(z) = b U(z) - (1 - b) log q(z),  b in (0, 1]
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hvax.checks import count, vector
from hvax.hamiltonian.gradient import Evaluation, ValueAndGrad
from hvax.parameters import FLOOR, Fixed

Weights = ArrayLike | Sequence[float]
A = TypeVar("A", Array, np.ndarray)


class AbstractBridge(eqx.Module):
    """The bridging weights of a flow's transitions; they may be learned."""

    @abstractmethod
    def weights(self, num_steps: int) -> Float[Array, " K"]:
        """b_1 <= ... <= b_K in (0, 1], for a flow of K = num_steps transitions."""


class FixedBridge(AbstractBridge):
    """Given weights that are not trained: K increasing numbers in (0, 1].

    Raises `ValueError` for numbers outside (0, 1] or that do not increase.
    """

    held: Fixed

    def __init__(self, weights: Weights):
        name = "the weights of a bridge"
        given = vector(weights, name)
        if not isinstance(given, jax.core.Tracer):
            _check(np.asarray(given), name)
        self.held = Fixed(given)

    def weights(self, num_steps: int) -> Float[Array, " K"]:
        return _of_length(self.held.value, num_steps)


class LearnedBridge(AbstractBridge):
    """Trained weights: b_k is the sum of the first k of K + 1 positive increments that sum to 1.

        b_k = sum_{j <= k} (1e-4 + (1 - (K + 1) 1e-4) softmax(raw)_j)

    They start at `initial`, K increasing numbers in (0, 1), by default b_k = k / (K + 1). So the
    last transition follows a density short of the model's: once a chain has mixed, a transition at
    the model's own density cannot raise its log-weight. Raises `ValueError` for an `initial` of the
    wrong length or range. Geffner and Domke, "MCMC Variational Inference via Uncorrected
    Hamiltonian Annealing" (2021), section 3.2.
    """

    raw: Float[Array, " increments"]

    def __init__(self, num_steps: int, initial: Weights | None = None):
        num_steps = count(num_steps, "num_steps", least=0)
        if initial is None:
            increments = np.full(num_steps + 1, 1 / (num_steps + 1))
        else:
            given = np.asarray(vector(initial, "initial"), np.float64)
            _check(given, "initial")
            increments = np.diff(_of_length(given, num_steps), prepend=0.0, append=1.0)
        room = 1 - FLOOR * len(increments)
        if not np.all(increments > FLOOR):
            raise ValueError(
                f"initial must rise by more than {FLOOR:g} from 0 to each weight to the next and "
                f"to 1, got {initial!r}. Use FixedBridge for such weights."
            )
        self.raw = jnp.asarray(np.log((increments - FLOOR) / room), float)

    def weights(self, num_steps: int) -> Float[Array, " K"]:
        increments = FLOOR + (1 - FLOOR * self.raw.size) * jax.nn.softmax(self.raw)
        return _of_length(jnp.cumsum(increments[:-1]), num_steps)


class Ends(NamedTuple):
    """The potentials of both ends of a bridge at one z, U and -log q, with their gradients."""

    target: Evaluation
    start: Evaluation


def between(b: ArrayLike, ends: Ends) -> Evaluation:
    """U_b = b U - (1 - b) log q and its gradient, with the target's aux.

    Both ends are kept in the result, so that U at another b needs no new evaluation.
    """
    target, start, b = ends.target, ends.start, jnp.asarray(b)
    potential = b * target.potential + (1 - b) * start.potential
    gradient = b * target.gradient + (1 - b) * start.gradient
    bare = Ends(target._replace(aux=None), start._replace(aux=None))
    return Evaluation(potential, gradient, target.aux, bare)


def both_ends(target: ValueAndGrad, start: ValueAndGrad) -> Callable[[Float[Array, " d"]], Ends]:
    """The function z -> `Ends`, with one evaluation of each end."""
    return lambda z: Ends(target(z), start(z))


def as_bridge(bridge: AbstractBridge | Weights) -> AbstractBridge:
    """`bridge` itself if it is a bridge, else `FixedBridge(bridge)`."""
    return bridge if isinstance(bridge, AbstractBridge) else FixedBridge(bridge)


def _check(weights: np.ndarray, name: str) -> None:
    if not (np.all((weights > 0) & (weights <= 1)) and np.all(np.diff(weights) > 0)):
        raise ValueError(f"{name} must be increasing numbers in (0, 1], got {weights}.")


def _of_length(weights: A, num_steps: int) -> A:
    if weights.shape != (num_steps,):
        raise ValueError(
            f"the bridge must have {num_steps} weights, one per transition, got {weights.size}."
        )
    return weights
