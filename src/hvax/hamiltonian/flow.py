"""The Hamiltonian flow: transitions of leapfrog steps, each behind a refreshment of the momentum
and ahead of a rescaling, on one potential or through densities that bridge to it."""

from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from hvax.checks import check_callable, check_key, check_kind, count, positive, vector
from hvax.hamiltonian.abstract_flow import AbstractFlow, FlowResult, Start
from hvax.hamiltonian.bridge import AbstractBridge, Weights, as_bridge
from hvax.hamiltonian.gradient import (
    AbstractGradient,
    AnyPotential,
    Potential,
    gradient_method,
    with_aux,
)
from hvax.hamiltonian.integrator import AbstractIntegrator, VelocityVerlet, integrator_named
from hvax.hamiltonian.leapfrog import PhaseState
from hvax.hamiltonian.momentum import AbstractMomentum, GaussianMomentum
from hvax.hamiltonian.path import AbstractPath, path_to
from hvax.hamiltonian.phase_space import PhaseSpace, Stages
from hvax.hamiltonian.presets import preset_options
from hvax.hamiltonian.step_size import (
    AffineStepSize,
    Units,
    check_mass,
    check_step_sizes,
    check_units,
    in_unit_mass,
    of_transitions,
    unit_of,
)
from hvax.hamiltonian.tempering import AbstractTempering, NullTempering, check_schedule
from hvax.parameters import AbstractParameter, as_parameter

# Flows of up to so many steps are compiled without a loop: 784-400-20 with K = 3 then trains in
# 0.85 of the time, the paper's convolutional net with K = 5 in 0.84.
_UNROLLED = 5


class _Transition(NamedTuple):
    """What transition k takes."""

    k: Int[Array, ""]
    step_size: Float[Array, " d"]
    scaling: Float[Array, ""]  # sqrt(beta_{k-1} / beta_k)
    beta: Float[Array, ""]  # beta_{k-1}
    xi: Float[Array, " d"] | None  # where momenta are refreshed
    b: Float[Array, ""]  # the bridging weight; 1 where there is no bridge


class _Step(NamedTuple):
    """What transition k leaves behind."""

    z: Float[Array, " d"]
    rho: Float[Array, " d"]
    log_refreshment: Float[Array, ""]
    energy_errors: Float[Array, " L"]


class HamiltonianFlow(AbstractFlow):
    """K transitions on a potential z -> U, or z -> (U, aux).

        rho_0 = gamma / sqrt(beta_0),  gamma ~ N(0, I)
        for k = 1 ... K:
            rho    = eta rho + sqrt(1 - eta^2) xi / sqrt(beta_{k-1}),  xi ~ N(0, I)
            z, rho = L leapfrog steps from (z, rho) on b_k U(z) - (1 - b_k) log q(z)
            rho    = sqrt(beta_{k-1} / beta_k) rho

    with q the density that z_0 was drawn from. Each part is an object of its own, and the defaults
    here are the simplest of each: leapfrog steps of a fixed size on U itself, the momentum kept
    throughout. `hvae`, `uha`, `dais` and `ula` are the flows to train with, by names that the
    program has too (docs/flows.md). A flow of K >= 1 transitions evaluates the potential's gradient
    K L + 1 times; one of none evaluates the potential once and no gradient. Caterini, Doucet and
    Sejdinovic (2018), Algorithm 1.

    **Arguments:**

    - `num_steps`: K, an integer >= 0.
    - `step_size`: > 0, of shape `()`, `(d,)`, `(K, 1)` or `(K, d)`, or an `AffineStepSize`;
      numbers and arrays are held fixed, `Learned(initial, upper=...)` is trained.
    - `tempering`: the schedule of inverse temperatures; None is none, `NullTempering(1.0)`.
    - `gradient`: `"reverse"`, `"forward"`, `"taylor"`, `"finite"`, or a method such as
      `FiniteDifference("forward")`; it is that of log q too.
    - `remat`: whether training keeps only positions and momenta of each transition and computes the
      rest again when it differentiates: memory flat in K, in about the same time on a CPU.
    - `bridge`: K increasing weights b_k in (0, 1], a `FixedBridge` or `LearnedBridge`; None is 1.
    - `eta`: how much of the momentum stays, in [0, 1], a number or `Learned(0.9)`; 1, the default,
      keeps it all and draws no noise. It is short for `momentum=GaussianMomentum(eta)`.
    - `momentum`: what momenta are drawn from and scored under, in place of `eta`.
    - `leapfrog_steps`: L, an integer >= 1.
    - `mass`: diagonal masses m > 0 of shape `()` or `(d,)`, a number, an array, or learned. The
      momenta here are those of unit mass, rho / sqrt(m), so that m is a step size of
      step_size / sqrt(m).
    - `units`: what a step size of 1 is: `"latent"`, 1 in each dimension of z, or `"posterior"`, the
      standard deviation of q there: a mass of 1 / sigma(x)^2, of each data point its own.
    - `integrator`: `"velocity"`, the leapfrog of the papers above, or `"position"`, with K L
      gradients and one value.
    - `max_force`: the largest |dU/dz_i| that moves a momentum, over the unit of z_i (with
      `units="posterior"` times its standard deviation under q); None is no limit. A kick by any
      function of z preserves volume, so the log-weight stays exact; and no trajectory runs away,
      however steep the potential is where it gets to.

    Raises `ValueError` for an argument outside its range.
    """

    num_steps: int = eqx.field(static=True)
    step_size: AbstractParameter | AffineStepSize
    tempering: AbstractTempering
    gradient: AbstractGradient
    remat: bool = eqx.field(static=True, default=False)
    bridge: AbstractBridge | None = None
    momentum: AbstractMomentum = GaussianMomentum()
    leapfrog_steps: int = eqx.field(static=True, default=1)
    mass: AbstractParameter | None = None
    units: Units = eqx.field(static=True, default="latent")
    integrator: AbstractIntegrator = VelocityVerlet()
    max_force: float | None = eqx.field(static=True, default=None)

    def __init__(
        self,
        num_steps: int = 3,
        step_size: AbstractParameter | AffineStepSize | ArrayLike = 0.05,
        tempering: AbstractTempering | None = None,
        gradient: str | AbstractGradient = "reverse",
        remat: bool = False,
        *,
        bridge: AbstractBridge | Weights | None = None,
        eta: AbstractParameter | ArrayLike | None = None,
        momentum: AbstractMomentum | None = None,
        leapfrog_steps: int = 1,
        mass: AbstractParameter | ArrayLike | None = None,
        units: str = "latent",
        integrator: str | AbstractIntegrator = "velocity",
        max_force: float | None = None,
    ):
        if tempering is not None:
            check_kind(tempering, "tempering", AbstractTempering)
        self.num_steps = count(num_steps, "num_steps", least=0)
        if not isinstance(step_size, AffineStepSize):
            step_size = as_parameter(step_size, "step_size")
        elif bridge is None:
            raise ValueError("an AffineStepSize is affine in the weights of a bridge: give bridge.")
        self.step_size = step_size
        self.tempering = NullTempering(1.0) if tempering is None else tempering
        self.gradient = gradient_method(gradient)
        self.remat = remat
        self.bridge = None if bridge is None else as_bridge(bridge)
        self.momentum = _momentum(momentum, eta)
        self.leapfrog_steps = count(leapfrog_steps, "leapfrog_steps")
        self.mass = None if mass is None else as_parameter(mass, "mass")
        self.units = check_units(units)
        self.integrator = integrator_named(integrator)
        self.max_force = None if max_force is None else positive(max_force, "max_force")
        if self.bridge is not None:
            self.bridge.weights(self.num_steps)
        if self.mass is not None:
            check_mass(self.mass.value)
        check_step_sizes(self.step_sizes, self.num_steps)
        check_schedule(self.tempering.beta(self.num_steps), self.num_steps)

    @classmethod
    def preset(cls, name: str, num_steps: int | None = None, **options: Any) -> "HamiltonianFlow":
        """The flow of this name in the table `hvax.hamiltonian.presets.PRESETS`.

        `options` are arguments of the class and stand in the place of the table's. Raises
        `ValueError` for a name that is not there.
        """
        return cls(**preset_options(name, num_steps, options))

    @classmethod
    def hvae(cls, num_steps: int = 4, **options: Any) -> "HamiltonianFlow":
        """The Hamiltonian VAE's: no bridge, all of the momentum kept, tempered with a learned
        beta_0. Caterini, Doucet and Sejdinovic (2018).

        `options` are arguments of the class, here and below. Step sizes are learned and in units
        of q's standard deviations, and the force is limited.
        """
        return cls.preset("hvae", num_steps, **options)

    @classmethod
    def uha(cls, num_steps: int = 4, **options: Any) -> "HamiltonianFlow":
        """Uncorrected Hamiltonian annealing: a learned bridge, eta and step size, no tempering.

        Geffner and Domke, "MCMC Variational Inference via Uncorrected Hamiltonian Annealing"
        (2021).
        """
        return cls.preset("uha", num_steps, **options)

    @classmethod
    def dais(cls, num_steps: int = 4, **options: Any) -> "HamiltonianFlow":
        """Differentiable annealed importance sampling: as `uha`, by position Verlet: K gradients
        and one value.

        Its authors refresh the momentum behind each step. Here it is refreshed ahead of each: the
        refreshment behind the last step moves nothing that is scored, and one ahead of the first
        replaces one draw from N(0, I) by another, so the log-weights have the same distribution.
        Zhang, Hsu, Li, Finn and Grosse, "Differentiable Annealed Importance Sampling and the Perils
        of Gradient Noise" (2021).
        """
        return cls.preset("dais", num_steps, **options)

    @classmethod
    def ula(cls, num_steps: int = 4, **options: Any) -> "HamiltonianFlow":
        """Unadjusted Langevin: as `uha` with eta = 0, a fresh momentum for each transition.

        One leapfrog step of size e from a fresh momentum is a Langevin step of size e^2 / 2; its
        reverse is scored with the momentum that the step ends with. Thin, Kotelevskii et al.,
        "Monte Carlo Variational Auto-Encoders" (2021).
        """
        return cls.preset("ula", num_steps, **options)

    @classmethod
    def reference(cls, num_steps: int = 3, **options: Any) -> "HamiltonianFlow":
        """The Julia reference's defaults: tempered from beta_0 = 0.3, nothing learned, in latent
        units; but for its step size of 1e-4, at which nothing moves (docs/from-julia.md)."""
        return cls.preset("reference", num_steps, **options)

    @property
    def eta(self) -> AbstractParameter | None:
        """How much of a Gaussian momentum stays; None where it is all kept, or of another kind."""
        return self.momentum.eta if isinstance(self.momentum, GaussianMomentum) else None

    @property  # type: ignore[misc]
    def num_gradients(self) -> int:  # type: ignore[override]
        """K L; by velocity Verlet one more."""
        return self.num_steps * self.leapfrog_steps

    @property
    def step_sizes(self) -> Float[Array, "..."]:
        """The step sizes in `units` and in unit mass; `()`, `(d,)`, `(K, 1)` or `(K, d)`."""
        if isinstance(self.step_size, AffineStepSize):
            assert self.bridge is not None
            value = self.step_size.along(self.bridge.weights(self.num_steps))
        else:
            value = self.step_size.value
        return value if self.mass is None else in_unit_mass(value, self.mass.value)

    def __call__(
        self,
        potential: AnyPotential,
        z: Float[Array, " d"],
        *,
        key: PRNGKeyArray,
        start: Start | None = None,
    ) -> FlowResult:
        """The flow from z with fresh momenta, on a potential z -> U or z -> (U, aux).

        `start` is q, what z was drawn from: a bridge needs its `log_prob`, and `units="posterior"`
        its `sigma`. The result's trajectory is a `PhaseSpace`, and its log_ratio that of the
        momenta (`AbstractMomentum`): for Gaussian ones

            |gamma|^2 / 2 - beta_K |rho_K|^2 / 2 + sum_k log N(rho_{k-1}) - log N(rho'_k)

        in nats; all other terms cancel exactly.
        """
        check_callable(potential, "potential")
        check_key(key)
        z = vector(z, "z")
        gamma, xi = self.momenta(z, key=key)
        return self.transport(with_aux(potential), z=z, gamma=gamma, xi=xi, start=start)

    def momenta(
        self, z: Float[Array, " d"], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " d"], Float[Array, "K d"] | None]:
        """The noise of a flow from z: gamma, and xi, which is None where nothing is refreshed."""
        if not self.momentum.refreshes:
            return jax.random.normal(key, z.shape, z.dtype), None
        gamma_key, xi_key = jax.random.split(key)
        xi = jax.random.normal(xi_key, (self.num_steps, *z.shape), z.dtype)
        return jax.random.normal(gamma_key, z.shape, z.dtype), xi

    def transport(
        self,
        potential: Potential,
        *,
        z: Float[Array, " d"],
        gamma: Float[Array, " d"],
        xi: Float[Array, "K d"] | None = None,
        start: Start | None = None,
    ) -> FlowResult:
        """The deterministic flow from z with the noise gamma of rho_0 and xi of refreshments."""
        return self._run(potential, z=z, gamma=gamma, xi=xi, start=start)[0]

    def stages(
        self,
        potential: Potential,
        *,
        z: Float[Array, " d"],
        gamma: Float[Array, " d"],
        xi: Float[Array, "K d"] | None = None,
        start: Start | None = None,
    ) -> tuple[PhaseSpace, Stages]:
        """The trajectory of `transport`, with where each transition ended."""
        result, steps = self._run(potential, z=z, gamma=gamma, xi=xi, start=start)
        space = cast(PhaseSpace, result.trajectory)
        _, log_start = self.momentum.start(space.gamma, space.beta[0])
        log_end = jax.vmap(self.momentum.log_density)(steps.rho, space.beta[1:])
        log_ratio = log_end - log_start + jnp.cumsum(steps.log_refreshment)
        return space, Stages(steps.z, steps.rho, steps.log_refreshment, log_ratio)

    def _run(
        self,
        potential: Potential,
        *,
        z: Float[Array, " d"],
        gamma: Float[Array, " d"],
        xi: Float[Array, "K d"] | None,
        start: Start | None,
    ) -> tuple[FlowResult, _Step]:
        z, gamma = vector(z, "z"), vector(gamma, "gamma")
        xi = self._refreshments(xi, z)
        beta = self.tempering.beta(self.num_steps).astype(z.dtype)
        rho, log_start = self.momentum.start(gamma, beta[0])
        if self.num_steps == 0:
            _, aux = potential(z)
            end, none = (z, rho), beta[:0]
            steps = _Step(z[None][:0], rho[None][:0], none, none[:, None])
            total, errors = jnp.zeros((), z.dtype), none
        else:
            end, aux, steps = self._moved(potential, beta, z=z, rho=rho, xi=xi, start=start)
            total, errors = jnp.sum(steps.log_refreshment), steps.energy_errors.reshape(-1)
        log_ratio = self.momentum.log_density(end[1], beta[-1]) - (log_start - total)
        space = PhaseSpace(z, rho, *end, gamma, beta, total, errors)
        return FlowResult(space.z_final, log_ratio, aux, space), steps

    def _moved(
        self,
        potential: Potential,
        beta: Float[Array, " stages"],
        *,
        z: Float[Array, " d"],
        rho: Float[Array, " d"],
        xi: Float[Array, "K d"] | None,
        start: Start | None,
    ) -> tuple[tuple[Float[Array, " d"], Float[Array, " d"]], PyTree, _Step]:
        """The end (z_K, rho_K) of K >= 1 transitions, the potential's aux there, and all steps."""
        path, unit = self._path(potential, z, start), unit_of(self.units, start, z)
        b = self._bridging_weights(z)

        def transition(state: PhaseState, now: _Transition) -> tuple[PhaseState, _Step]:
            state, log_refreshment = self._refresh(state, now, start)
            # The last transition left U and its gradient of the density that it followed.
            state = state._replace(**path.reweight(now.b, state.met)._asdict())
            state, errors = self._leapfrog(path, state, now)
            state = state._replace(rho=now.scaling * state.rho)
            return state, _Step(state.z, state.rho, log_refreshment, errors)

        if self.remat:
            transition = jax.checkpoint(transition)
        first = path.value_and_grad(b[0])
        transitions = _Transition(
            jnp.arange(1, self.num_steps + 1),
            of_transitions(self.step_sizes, self.num_steps, z, unit=unit),
            jnp.sqrt(beta[:-1] / beta[1:]),
            beta[:-1],
            xi,
            b,
        )
        unroll = self.num_steps * self.leapfrog_steps <= _UNROLLED and not self.remat
        state = self.integrator.start(first, z=z, rho=rho)
        state, steps = jax.lax.scan(transition, state, transitions, unroll=unroll)
        value = path.value(b[-1])
        aux, errors = self.integrator.end(value, state, steps.energy_errors.reshape(-1))
        return (state.z, state.rho), aux, steps._replace(energy_errors=errors)

    def _bridging_weights(self, z: Float[Array, " d"]) -> Float[Array, " K"]:
        if self.bridge is None:
            return jnp.ones(self.num_steps, z.dtype)
        return self.bridge.weights(self.num_steps).astype(z.dtype)

    def _path(
        self, potential: Potential, z: Float[Array, " d"], start: Start | None
    ) -> AbstractPath:
        limit = None
        if self.max_force is not None:
            unit = unit_of(self.units, start, z)
            limit = self.max_force / (jnp.ones_like(z) if unit is None else unit)
        return path_to(
            potential,
            start=start,
            bridged=self.bridge is not None,
            gradient=self.gradient,
            with_aux_at_gradients=self.integrator.last_gradient_at_end,
            limit=limit,
        )

    def _refresh(
        self, state: PhaseState, now: _Transition, start: Start | None
    ) -> tuple[PhaseState, Float[Array, ""]]:
        """The state with its momentum refreshed, and what that adds to the log-weight."""
        if now.xi is None:
            return state, jnp.zeros((), state.rho.dtype)
        rho, log_ratio = self.momentum.refresh(
            state.rho, now.xi, z=state.z, k=now.k, beta=now.beta, start=start
        )
        return state._replace(rho=rho), log_ratio

    def _leapfrog(
        self, path: AbstractPath, state: PhaseState, now: _Transition
    ) -> tuple[PhaseState, Float[Array, " L"]]:
        """The leapfrog steps of one transition, and their energy errors."""
        evaluate = path.value_and_grad(now.b)
        if self.leapfrog_steps == 1:
            state, error = self.integrator.step(evaluate, state, now.step_size)
            return state, error[None]
        return jax.lax.scan(
            lambda state, _: self.integrator.step(evaluate, state, now.step_size),
            state,
            length=self.leapfrog_steps,
            unroll=self.leapfrog_steps <= _UNROLLED,
        )

    def _refreshments(
        self, xi: Float[Array, "K d"] | None, z: Float[Array, " d"]
    ) -> Float[Array, "K d"] | None:
        if not self.momentum.refreshes:
            return None
        shape = (self.num_steps, *z.shape)
        if xi is None or xi.shape != shape:
            got = "none" if xi is None else f"shape {xi.shape}"
            raise ValueError(
                f"a flow with eta needs xi, normal numbers of shape {shape}, got {got}; "
                "flow.momenta(z, key=key) draws gamma and xi."
            )
        return xi.astype(z.dtype)


def _momentum(
    momentum: AbstractMomentum | None, eta: AbstractParameter | ArrayLike | None
) -> AbstractMomentum:
    if momentum is None:
        return GaussianMomentum(1.0 if eta is None else eta)
    check_kind(momentum, "momentum", AbstractMomentum)
    if eta is not None:
        raise ValueError("eta is short for momentum=GaussianMomentum(eta): give one of the two.")
    return momentum
