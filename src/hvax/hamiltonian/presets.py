"""The flows by name, each with its defaults: the one table of them.

The constructors (`HamiltonianFlow.dais(4)`), the program (`--flow dais --num-steps 4`), the
experiments and docs/flows.md read it, and the tests of laws run every flow in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jax.typing import ArrayLike

from hvax.checks import count
from hvax.hamiltonian.bridge import AbstractBridge, FixedBridge, LearnedBridge
from hvax.hamiltonian.step_size import Units
from hvax.hamiltonian.tempering import (
    AbstractTempering,
    FreeTempering,
    NullTempering,
    QuadraticTempering,
    TemperatureTempering,
)
from hvax.parameters import AbstractParameter, Fixed, Learned

BridgeName = Literal["learned", "even", "none"]
ScheduleName = Literal["quadratic", "temperature", "free", "none"]
IntegratorName = Literal["velocity", "position"]

MAX_STEP = 1.5
"""The bound of learned step sizes."""
MAX_FORCE = 30.0
"""The limit of the force where step sizes are in q's standard deviations: where leapfrog is stable
at a step of 0.4 a force of 30 is met four standard deviations out; beyond, a step would be
thrown."""


@dataclass(frozen=True)
class Preset:
    """A flow's defaults, as words and numbers.

    `step_size` is learned where it has a bound, `max_step`; `beta0` where `learned`; `eta` where
    `learned` and neither 0 nor 1.
    """

    bridge: BridgeName = "learned"
    eta: float = 0.9
    schedule: ScheduleName = "none"
    integrator: IntegratorName = "velocity"
    num_steps: int = 4
    step_size: float = 0.4
    max_step: float | None = MAX_STEP
    units: Units = "posterior"
    beta0: float = 0.8
    learned: bool = True
    turn: float | None = None
    """The longest trajectory to begin with, in step sizes summed over all leapfrog steps: without
    momentum refreshment a longer one turns back. A whole turn is 2 pi."""

    def first_step_size(self, num_steps: int, leapfrog_steps: int = 1) -> float:
        """The step size that such a flow begins with, in `units`."""
        if self.turn is None:
            return self.step_size
        return min(self.step_size, self.turn / max(1, num_steps * leapfrog_steps))


PRESETS: Mapping[str, Preset] = {
    # Caterini, Doucet and Sejdinovic, "Hamiltonian Variational Auto-Encoder" (2018).
    "hvae": Preset(bridge="none", eta=1.0, schedule="quadratic", turn=1.6),
    # Geffner and Domke, "MCMC Variational Inference via Uncorrected Hamiltonian Annealing" (2021).
    "uha": Preset(),
    # Zhang, Hsu, Li, Finn and Grosse, "Differentiable Annealed Importance Sampling and the Perils
    # of Gradient Noise" (2021). They refresh the momentum behind each step. Here it is refreshed
    # ahead of each: the refreshment behind the last step moves nothing that is scored, and one
    # ahead of the first replaces one draw from N(0, I) by another, so the log-weights have the same
    # distribution.
    "dais": Preset(integrator="position"),
    # Thin, Kotelevskii et al., "Monte Carlo Variational Auto-Encoders" (2021). One leapfrog step of
    # size e from a fresh momentum is a Langevin step of size e^2 / 2; its reverse is scored with
    # the momentum that the step ends with.
    "ula": Preset(eta=0.0),
    # The Julia implementation's, but for its step size of 1e-4, at which nothing moves.
    "reference": Preset(
        bridge="none",
        eta=1.0,
        schedule="quadratic",
        num_steps=3,
        step_size=0.05,
        max_step=None,
        units="latent",
        beta0=0.3,
        learned=False,
    ),
}


def preset_options(name: str, num_steps: int | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `HamiltonianFlow` for a preset; `given` stand in the place of the table's.

    The force is limited where step sizes are in units of the posterior, whoever said so. Raises
    `ValueError` for a name that is not in the table.
    """
    if name not in PRESETS:
        raise ValueError(f"the flow must be one of {', '.join(PRESETS)}, got {name!r}.")
    preset = PRESETS[name]
    K = preset.num_steps if num_steps is None else count(num_steps, "num_steps", least=0)
    options = dict(given)
    leapfrog_steps = count(options.get("leapfrog_steps", 1), "leapfrog_steps")
    first = preset.first_step_size(K, leapfrog_steps)
    options.setdefault("step_size", as_step_size(first, preset.max_step))
    options.setdefault("units", preset.units)
    options.setdefault(
        "tempering", tempering_named(preset.schedule, K, beta0=preset.beta0, learned=preset.learned)
    )
    options.setdefault("bridge", bridge_named(preset.bridge, K))
    if "momentum" not in options:
        options.setdefault("eta", as_share(preset.eta, learned=preset.learned))
    options.setdefault("integrator", preset.integrator)
    options.setdefault("max_force", MAX_FORCE if options["units"] == "posterior" else None)
    return {"num_steps": K, **options}


def as_step_size(first: ArrayLike, upper: float | None) -> AbstractParameter:
    """Step sizes that are learned below a bound, or fixed where there is none."""
    return Fixed(first) if upper is None else Learned(first, upper=upper)


def as_share(eta: float, *, learned: bool) -> AbstractParameter:
    """The share of the momentum that is kept; at its bounds 0 and 1 it is not learned."""
    return Learned(eta) if learned and 0 < eta < 1 else Fixed(eta)


def bridge_named(name: BridgeName, num_steps: int) -> AbstractBridge | None:
    """Bridging weights from k / (K + 1) on, learned, or held there (`even`); none at K = 0."""
    if name == "none" or num_steps == 0:
        return None
    if name == "learned":
        return LearnedBridge(num_steps)
    return FixedBridge(np.arange(1, num_steps + 1) / (num_steps + 1))


def tempering_named(
    name: ScheduleName, num_steps: int, *, beta0: float, learned: bool
) -> AbstractTempering:
    """A schedule that begins at beta0, fixed or learned; `free` in K equal scalings."""
    if name == "none":
        return NullTempering(1.0)

    def parameter(value: float) -> AbstractParameter:
        return Learned(value) if learned else Fixed(value)

    if name == "free":
        if num_steps == 0:
            return FreeTempering(0)
        return FreeTempering(num_steps, parameter(beta0 ** (0.5 / num_steps)))
    kinds = {"quadratic": QuadraticTempering, "temperature": TemperatureTempering}
    return kinds[name](parameter(beta0))
