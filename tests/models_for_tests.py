"""Small potentials, schedules and models that many tests share."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hvax.hamiltonian.bridge import LearnedBridge
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import AbstractGradient, FiniteDifference, ForwardMode, ReverseMode
from hvax.hamiltonian.presets import PRESETS
from hvax.hamiltonian.step_size import AffineStepSize
from hvax.hamiltonian.tempering import (
    AbstractTempering,
    CustomTempering,
    FreeTempering,
    NullTempering,
    QuadraticTempering,
    TemperatureTempering,
)
from hvax.models.decoder import Decoder
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.hvae import HVAE
from hvax.models.likelihood import FixedGaussian
from hvax.models.vae import VAE
from hvax.parameters import Learned

# For programs that run once: half the time to compile, the same numbers to rounding.
QUICK_COMPILE = {"xla_backend_optimization_level": 0}

METHODS = {
    "reverse": ReverseMode(),
    "forward": ForwardMode(),
    "central": FiniteDifference(),
    "one-sided": FiniteDifference("forward"),
}
EXACT = ("reverse", "forward", "taylor")
SCHEDULES = ("quadratic", "null", "temperature", "free", "custom")


def above_one(beta0: ArrayLike, k: int, num_steps: int) -> ArrayLike:
    """A user's schedule that starts at 1.3 beta0 and ends above one, at 1.3."""
    return 1.3 * beta0 ** (1 - k / num_steps)


def tempering(
    name: str, num_steps: int, beta0: float = 0.4, *, learned: bool = False
) -> AbstractTempering:
    """The schedule of this name; `free` has unequal scalings whose product squared is beta0."""
    if name == "free":
        share = np.linspace(1, 2, num_steps) / max(1, np.sum(np.linspace(1, 2, num_steps)))
        alpha = np.sqrt(beta0) ** share
        return FreeTempering(num_steps, Learned(alpha) if learned else alpha)
    start = Learned(beta0) if learned else beta0
    if name == "custom":
        return CustomTempering(above_one, start)
    kinds = {
        "quadratic": QuadraticTempering,
        "null": NullTempering,
        "temperature": TemperatureTempering,
    }
    return kinds[name](start)


FAMILY = (*PRESETS, "everything", "everything by position")
IN_LATENT_UNITS = ("dais", "reference")


def family(name: str, num_steps: int, d: int = 2, **options) -> HamiltonianFlow:
    """A member of the family of flows, with every number of it learned and none at its default;
    some take their steps in units of the latent space, the others in the posterior's."""
    sizes = (0.2 if name in IN_LATENT_UNITS else 0.5) * np.linspace(0.7, 1.4, d)
    rising = np.linspace(0.25, 0.85, num_steps) ** 1.5
    options = {
        "step_size": Learned(sizes, upper=1.5),
        "bridge": LearnedBridge(num_steps, rising if num_steps else None),
        "eta": Learned(0.6),
    } | options
    if name in PRESETS:
        if PRESETS[name].bridge == "none":
            del options["bridge"]
        if PRESETS[name].eta in (0, 1):
            del options["eta"]
        if PRESETS[name].schedule != "none":
            options["tempering"] = tempering(PRESETS[name].schedule, num_steps, 0.6, learned=True)
        options["units"] = "latent" if name in IN_LATENT_UNITS else "posterior"
        return HamiltonianFlow.preset(name, num_steps, **options)
    options["step_size"] = AffineStepSize(
        Learned(0.5 * sizes, upper=1.5), Learned(sizes, upper=1.5)
    )
    return HamiltonianFlow(
        num_steps,
        tempering=tempering("quadratic", num_steps, 0.6, learned=True),
        leapfrog_steps=2,
        mass=Learned(np.linspace(0.7, 1.6, d), upper=4.0),
        units="posterior",
        integrator="position" if name == "everything by position" else "velocity",
        **options,
    )


def rough(weight: Array) -> Callable[[Float[Array, " d"]], Float[Array, ""]]:
    """A smooth potential without symmetries: sum softplus(W z) + cos(z) . z + |z|^2 / 2."""

    def potential(z: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.sum(jax.nn.softplus(weight @ z)) + jnp.cos(z) @ z + 0.5 * (z @ z)

    return potential


class Stopped(AbstractGradient):
    """An error on purpose: training that does not differentiate through grad U."""

    def value_and_grad(self, potential):
        evaluate = ReverseMode().value_and_grad(potential)

        def stopped(z):
            found = evaluate(z)
            return found._replace(gradient=jax.lax.stop_gradient(found.gradient))

        return stopped


class Affine(eqx.Module):
    """z -> W z + b."""

    weight: Array
    bias: Array

    def __call__(self, z: Array) -> Array:
        return self.weight @ z + self.bias


class AffineEncoder(eqx.Module):
    """x -> N(W x + b, diag(exp(log_sigma))^2)."""

    mean: Affine
    log_sigma: Array

    def __call__(self, x: Array) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean(x), self.log_sigma)


def linear_gaussian(latent: int = 2, features: int = 3, *, seed: int = 0) -> VAE:
    """x = W z + b + N(0, s^2 I) with an affine encoder that is no exact posterior."""
    draw = np.random.default_rng(seed).normal

    def array(*shape: int) -> Array:
        return jnp.asarray(draw(size=shape), float)

    encoder = AffineEncoder(
        Affine(0.3 * array(latent, features), 0.3 * array(latent)), 0.3 * array(latent) - 0.7
    )
    network = Affine(0.6 * array(features, latent), 0.5 * array(features))
    return VAE(encoder, Decoder(network, FixedGaussian(Learned(0.8, upper=2.0))))


def moving(vae: VAE, schedule: str = "quadratic", num_steps: int = 2, **kwargs) -> HVAE:
    """An HVAE all of whose numbers are learned, with a step size per dimension."""
    latent = 2
    flow = HamiltonianFlow(
        num_steps,
        Learned(np.linspace(0.15, 0.25, latent), upper=0.5),
        tempering(schedule, num_steps, learned=True),
    )
    return HVAE(vae, flow, **kwargs)


def in_bits(tree):
    """Every array of a tree as bytes, keys too."""
    leaves = [
        jax.random.key_data(leaf)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else leaf
        for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    ]
    return [(leaf.shape, leaf.dtype, np.asarray(leaf).tobytes()) for leaf in leaves]
