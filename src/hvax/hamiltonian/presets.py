"""The table of named flows and their defaults.

Read by the constructors (`HamiltonianFlow.dais(4)`), the program (`--flow dais --num-steps 4`), the
experiments and docs/flows.md; the tests of laws run every flow in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jax.typing import ArrayLike

from hvax.checks import check_one_of, count
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
"""The upper bound of learned step sizes."""
MAX_FORCE = 30.0
"""The limit of the force, for step sizes in q's standard deviations. If leapfrog is just stable at
a step of 0.4, the force is about 30 at four standard deviations; only outliers are limited."""


@dataclass(frozen=True)
class Preset:
    """A flow's defaults, as words and numbers.

    The step size is learned if it has an upper bound `max_step`; beta0 if `learned`; eta if
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
    """The largest initial length of a trajectory (step size times leapfrog steps); None is no
    limit. Without momentum refreshment a longer one turns back, as a whole period is 2 pi."""

    def first_step_size(self, num_steps: int, leapfrog_steps: int = 1) -> float:
        """The initial step size for so many steps, in `units`."""
        if self.turn is None:
            return self.step_size
        return min(self.step_size, self.turn / max(1, num_steps * leapfrog_steps))


PRESETS: Mapping[str, Preset] = {
    # Caterini, Doucet and Sejdinovic, "Hamiltonian Variational Auto-Encoder" (2018).
    "hvae": Preset(bridge="none", eta=1.0, schedule="quadratic", turn=1.6),
    # Geffner and Domke, "MCMC Variational Inference via Uncorrected Hamiltonian Annealing" (2021).
    "uha": Preset(),
    # Zhang, Hsu, Li, Finn and Grosse, "Differentiable Annealed Importance Sampling and the Perils
    # of Gradient Noise" (2021). They refresh the momentum after each step, hvax before each. The
    # refreshment after the last step affects nothing that is scored, and one before the first only
    # replaces one draw from N(0, I) by another: the log-weights have the same distribution.
    "dais": Preset(integrator="position"),
    # Thin, Kotelevskii et al., "Monte Carlo Variational Auto-Encoders" (2021). One leapfrog step of
    # size e from a new momentum is a Langevin step of size e^2 / 2; the reverse step is scored with
    # the momentum at its end.
    "ula": Preset(eta=0.0),
    # The Julia implementation, except for its step size of 1e-4, at which nothing moves.
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
    """The arguments of `HamiltonianFlow` for a preset; `given` arguments override the table's.

    The force is limited whenever step sizes are in units of the posterior. Raises `ValueError` for
    an unknown name.
    """
    name = name.lower() if isinstance(name, str) else name
    check_one_of(name, "the flow", PRESETS)
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
    """Step sizes learned below an upper bound, or fixed if it is None."""
    return Fixed(first) if upper is None else Learned(first, upper=upper)


def as_share(eta: float, *, learned: bool) -> AbstractParameter:
    """The kept fraction of the momentum, learned unless it is 0 or 1."""
    return Learned(eta) if learned and 0 < eta < 1 else Fixed(eta)


def bridge_named(name: BridgeName, num_steps: int) -> AbstractBridge | None:
    """Bridging weights k / (K + 1), learned or fixed (`even`); None for "none" and for K = 0."""
    if name == "none" or num_steps == 0:
        return None
    if name == "learned":
        return LearnedBridge(num_steps)
    return FixedBridge(np.arange(1, num_steps + 1) / (num_steps + 1))


def tempering_named(
    name: ScheduleName, num_steps: int, *, beta0: float, learned: bool
) -> AbstractTempering:
    """A schedule from beta0 to 1, fixed or learned; "free" starts with K equal scalings."""
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
