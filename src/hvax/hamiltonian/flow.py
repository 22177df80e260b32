"""The Hamiltonian flow: transitions of leapfrog steps, each behind a refreshment of the momentum
and ahead of a rescaling, on one potential or through densities that bridge to it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.checks import check_callable, check_key, check_kind, count, positive, vector
from hvax.hamiltonian.abstract_flow import AbstractFlow, FlowResult
from hvax.hamiltonian.bridge import (
    AbstractBridge,
    Ends,
    LearnedBridge,
    Weights,
    as_bridge,
    between,
    both_ends,
)
from hvax.hamiltonian.gradient import (
    AbstractGradient,
    Evaluation,
    Potential,
    ValueAndGrad,
    gradient_method,
    with_aux,
)
from hvax.hamiltonian.integrator import AbstractIntegrator, VelocityVerlet, integrator_named
from hvax.hamiltonian.phase_space import PhaseSpace, Stages
from hvax.hamiltonian.refreshment import as_eta, refresh
from hvax.hamiltonian.step_size import AffineStepSize, check_positive
from hvax.hamiltonian.tempering import AbstractTempering, NullTempering, QuadraticTempering
from hvax.parameters import AbstractParameter, Learned, as_parameter

# Flows of up to so many steps are compiled without a loop: 784-400-20 with K = 3 then trains in
# 0.85 of the time, the paper's convolutional net with K = 5 in 0.84.
_UNROLLED = 5

MAX_FORCE = 30.0
"""The annealed flows' limit of the force, in standard deviations of q. Where leapfrog is stable at
a step of 0.4 a force of 30 is met four standard deviations out; beyond, a step would be thrown."""


class _Transition(NamedTuple):
    """What transition k takes."""

    step_size: Float[Array, " d"]
    scaling: Float[Array, ""]  # sqrt(beta_{k-1} / beta_k)
    beta: Float[Array, ""]  # beta_{k-1}
    xi: Float[Array, " d"] | None  # where momenta are refreshed
    b: Float[Array, ""] | None  # the bridging weight, where there is a bridge


class HamiltonianFlow(AbstractFlow):
    """K transitions on a potential z -> U, or z -> (U, aux).

        rho_0 = gamma / sqrt(beta_0),  gamma ~ N(0, I)
        for k = 1 ... K:
            rho    = eta rho + sqrt(1 - eta^2) xi / sqrt(beta_{k-1}),  xi ~ N(0, I)
            z, rho = L leapfrog steps from (z, rho) on b_k U(z) - (1 - b_k) log q(z)
            rho    = sqrt(beta_{k-1} / beta_k) rho

    with q the density that z_0 was drawn from. The Hamiltonian VAE's flow, the default here, has
    eta = 1, no bridge (b = 1) and L = 1; others of the family are `uha`, `dais` and `ula`
    (docs/flows.md). A flow of K >= 1 transitions evaluates the potential's gradient K L + 1 times;
    one of none evaluates the potential once and no gradient. The other defaults are the
    reference's, but for its step size of 1e-4, at which nothing moves. Caterini, Doucet and
    Sejdinovic (2018), Algorithm 1.

    **Arguments:**

    - `num_steps`: K, an integer >= 0.
    - `step_size`: > 0, of shape `()`, `(d,)`, `(K, 1)` or `(K, d)`, or an `AffineStepSize`;
      numbers and arrays are held fixed, `Learned(initial, upper=...)` is trained.
    - `tempering`: the schedule of inverse temperatures; `QuadraticTempering(0.3)` by default.
    - `gradient`: `"reverse"`, `"forward"`, `"taylor"`, `"finite"`, or a method such as
      `FiniteDifference("forward")`; it is that of log q too.
    - `remat`: whether training keeps only positions and momenta of each transition and computes the
      rest again when it differentiates: memory flat in K, in about the same time on a CPU.
    - `bridge`: K increasing weights b_k in (0, 1], a `FixedBridge` or `LearnedBridge`; None is 1.
    - `eta`: how much of the momentum stays, in [0, 1], a number or `Learned(0.9)`; 1 keeps it all
      and draws no noise.
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
    eta: AbstractParameter | None = None
    leapfrog_steps: int = eqx.field(static=True, default=1)
    mass: AbstractParameter | None = None
    units: str = eqx.field(static=True, default="latent")
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
        eta: AbstractParameter | ArrayLike = 1.0,
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
        self.tempering = QuadraticTempering() if tempering is None else tempering
        self.gradient = gradient_method(gradient)
        self.remat = remat
        self.bridge = None if bridge is None else as_bridge(bridge)
        self.eta = as_eta(eta)
        self.leapfrog_steps = count(leapfrog_steps, "leapfrog_steps")
        self.mass = None if mass is None else as_parameter(mass, "mass")
        if units not in ("latent", "posterior"):
            raise ValueError(f"units must be 'latent' or 'posterior', got {units!r}.")
        self.units = units
        self.integrator = integrator_named(integrator)
        self.max_force = None if max_force is None else positive(max_force, "max_force")
        if self.bridge is not None:
            self.bridge.weights(self.num_steps)
        if self.mass is not None:
            if self.mass.value.ndim > 1:
                raise ValueError(f"mass must have shape () or (d,), got {self.mass.value.shape}.")
            check_positive(self.mass.value, "mass")
        _check_step_sizes(self.step_sizes, self.num_steps)
        _check_beta(self.tempering.beta(self.num_steps), self.num_steps)

    @classmethod
    def hvae(cls, num_steps: int = 3, **options: Any) -> "HamiltonianFlow":
        """The Hamiltonian VAE's: eta = 1, no bridge, tempered. Caterini et al. (2018).

        `options` are those of the class, here and below.
        """
        return cls(num_steps, **options)

    @classmethod
    def uha(cls, num_steps: int = 4, **options: Any) -> "HamiltonianFlow":
        """Uncorrected Hamiltonian annealing: a learned bridge, eta and step size, no tempering.

        Geffner and Domke, "MCMC Variational Inference via Uncorrected Hamiltonian Annealing"
        (2021).
        """
        return cls(num_steps, **_annealed(num_steps) | options)

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
        return cls(num_steps, **_annealed(num_steps) | {"integrator": "position"} | options)

    @classmethod
    def ula(cls, num_steps: int = 4, **options: Any) -> "HamiltonianFlow":
        """Unadjusted Langevin: as `uha` with eta = 0, a fresh momentum for each transition.

        One leapfrog step of size e from a fresh momentum is a Langevin step of size e^2 / 2; its
        reverse is scored with the momentum that the step ends with. Thin, Kotelevskii et al.,
        "Monte Carlo Variational Auto-Encoders" (2021).
        """
        return cls(num_steps, **_annealed(num_steps) | {"eta": 0.0} | options)

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
        if self.mass is None:
            return value
        mass = self.mass.value
        return value / jnp.sqrt(mass[None] if mass.ndim == 1 and value.ndim == 2 else mass)

    def __call__(
        self,
        potential: Callable[[Float[Array, " d"]], Any],
        z: Float[Array, " d"],
        *,
        key: PRNGKeyArray,
        start: Any = None,
    ) -> FlowResult:
        """The flow from z with fresh momenta, on a potential z -> U or z -> (U, aux).

        The result's trajectory is a `PhaseSpace`, and its log_ratio

            |gamma|^2 / 2 - beta_K |rho_K|^2 / 2 + sum_k log N(rho_{k-1}) - log N(rho'_k)

        in nats: the log-density of all that was drawn is subtracted, that of rho_K added; the
        normalizing constants and log |det J| = (d/2) log(beta_0 / beta_K) cancel exactly.

        `start` is q, what z was drawn from: a bridge needs its `log_prob`, and `units="posterior"`
        its `sigma`.
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
        if self.eta is None:
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
        start: Any = None,
    ) -> FlowResult:
        """The deterministic flow from (z, gamma / sqrt(beta_0)) with refreshments xi."""
        return self._run(potential, z=z, gamma=gamma, xi=xi, start=start)[0]

    def stages(
        self,
        potential: Potential,
        *,
        z: Float[Array, " d"],
        gamma: Float[Array, " d"],
        xi: Float[Array, "K d"] | None = None,
        start: Any = None,
    ) -> tuple[PhaseSpace, Stages]:
        """The trajectory of `transport`, with where each transition ended."""
        result, stages = self._run(potential, z=z, gamma=gamma, xi=xi, start=start)
        return result.trajectory, stages

    def _run(
        self,
        potential: Potential,
        *,
        z: Float[Array, " d"],
        gamma: Float[Array, " d"],
        xi: Float[Array, "K d"] | None,
        start: Any,
    ) -> tuple[FlowResult, Stages]:
        z, gamma = vector(z, "z"), vector(gamma, "gamma")
        xi = self._refreshments(xi, z)
        beta = self.tempering.beta(self.num_steps).astype(z.dtype)
        rho, zero = gamma / jnp.sqrt(beta[0]), jnp.zeros((), z.dtype)
        if self.num_steps == 0:
            _, aux = potential(z)
            space = PhaseSpace(z, rho, z, rho, gamma, beta, zero, beta[:0])
            return _result(space, aux), Stages(z[None][:0], rho[None][:0], beta[:0])

        b = None if self.bridge is None else self.bridge.weights(self.num_steps).astype(z.dtype)
        evaluate, limit = self._evaluate(potential, start), self._force_limit(z, start)

        def transition(state: Any, k: _Transition) -> tuple[Any, tuple[Stages, Array]]:
            state, log_ratio = self._refreshed(state, k)
            state = _reweight(k.b, state, limit)
            state, errors = self._leapfrog(_towards(k.b, evaluate, limit), state, k.step_size)
            state = state._replace(rho=k.scaling * state.rho)
            return state, (Stages(state.z, state.rho, log_ratio), errors)

        if self.remat:
            transition = jax.checkpoint(transition)
        first = _towards(None if b is None else b[0], evaluate, limit)
        state = self.integrator.start(first, z=z, rho=rho)
        step_sizes, scaling = self._step_sizes(z, start), jnp.sqrt(beta[:-1] / beta[1:])
        transitions = _Transition(step_sizes, scaling, beta[:-1], xi, b)
        unroll = self.num_steps * self.leapfrog_steps <= _UNROLLED and not self.remat
        end, (stages, errors) = jax.lax.scan(transition, state, transitions, unroll=unroll)
        aux, errors = self._end(potential, start, b, end, errors.reshape(-1))
        total = jnp.sum(stages.log_refreshment)
        space = PhaseSpace(z, rho, end.z, end.rho, gamma, beta, total, errors)
        return _result(space, aux), stages

    def _evaluate(self, potential: Potential, start: Any) -> Callable:
        """z -> what a step needs there: U and its gradient, or those of both ends of the bridge."""
        bare = with_aux(lambda z: potential(z)[0])
        at_end = self.integrator.last_gradient_at_end
        target = self.gradient.value_and_grad(potential if at_end else bare)
        if self.bridge is None:
            return target
        if not callable(getattr(start, "log_prob", None)):
            raise ValueError(
                "a flow with a bridge needs start, what z was drawn from, with a log_prob(z); got "
                f"{start!r}."
            )
        return both_ends(
            target, self.gradient.value_and_grad(with_aux(lambda z: -start.log_prob(z)))
        )

    def _refreshed(self, state: Any, k: _Transition) -> tuple[Any, Float[Array, ""]]:
        """The state with its momentum refreshed, and what that adds to the log-weight."""
        if self.eta is None or k.xi is None:
            return state, jnp.zeros((), state.rho.dtype)
        eta = self.eta.value.astype(state.rho.dtype)
        rho, log_ratio = refresh(eta, state.rho, k.xi, k.beta)
        return state._replace(rho=rho), log_ratio

    def _leapfrog(
        self, value_and_grad: ValueAndGrad, state: Any, step_size: Float[Array, " d"]
    ) -> tuple[Any, Float[Array, " L"]]:
        """The leapfrog steps of one transition, and their energy errors."""
        if self.leapfrog_steps == 1:
            state, error = self.integrator.step(value_and_grad, state, step_size)
            return state, error[None]
        return jax.lax.scan(
            lambda state, _: self.integrator.step(value_and_grad, state, step_size),
            state,
            length=self.leapfrog_steps,
            unroll=self.leapfrog_steps <= _UNROLLED,
        )

    def _end(
        self,
        potential: Potential,
        start: Any,
        b: Float[Array, " K"] | None,
        state: Any,
        errors: Float[Array, " steps"],
    ) -> tuple[PyTree, Float[Array, " steps"]]:
        """The potential's aux at the end, and all energy errors."""
        if b is None:
            return self.integrator.end(potential, state, errors)

        def bridged(z: Float[Array, " d"]) -> tuple[Float[Array, ""], PyTree]:
            value, aux = potential(z)
            return b[-1] * value - (1 - b[-1]) * start.log_prob(z), aux

        aux, errors = self.integrator.end(bridged, state, errors)
        return (aux.target.aux if isinstance(aux, Ends) else aux), errors

    def _refreshments(
        self, xi: Float[Array, "K d"] | None, z: Float[Array, " d"]
    ) -> Float[Array, "K d"] | None:
        if self.eta is None:
            return None
        shape = (self.num_steps, *z.shape)
        if xi is None or xi.shape != shape:
            got = "none" if xi is None else f"shape {xi.shape}"
            raise ValueError(
                f"a flow with eta needs xi, normal numbers of shape {shape}, got {got}; "
                "flow.momenta(z, key=key) draws gamma and xi."
            )
        return xi.astype(z.dtype)

    def _step_sizes(self, z: Float[Array, " d"], start: Any) -> Float[Array, "K d"]:
        step_sizes, shape = self.step_sizes, (self.num_steps, z.size)
        if step_sizes.shape not in {(), z.shape, (self.num_steps, 1), shape}:
            raise ValueError(
                f"step_size must have shape (), ({z.size},), ({self.num_steps}, 1) or {shape} "
                f"for {self.num_steps} steps in {z.size} dimensions, got {step_sizes.shape}."
            )
        step_sizes = jnp.broadcast_to(step_sizes, shape).astype(z.dtype)
        return step_sizes if self.units == "latent" else step_sizes * self._sigma(z, start)[None]

    def _force_limit(self, z: Float[Array, " d"], start: Any) -> Float[Array, " d"] | None:
        if self.max_force is None:
            return None
        unit = jnp.ones_like(z) if self.units == "latent" else self._sigma(z, start)
        return self.max_force / unit

    def _sigma(self, z: Float[Array, " d"], start: Any) -> Float[Array, " d"]:
        """The standard deviations of q, which `units="posterior"` counts in."""
        sigma = getattr(start, "sigma", None)
        if sigma is None or sigma.shape != z.shape:
            got = "none" if sigma is None else f"shape {sigma.shape}"
            raise ValueError(
                'a flow with units="posterior" needs start, what z was drawn from, with a sigma of '
                f"shape {z.shape}, got {got}."
            )
        return sigma.astype(z.dtype)


def _result(space: PhaseSpace, aux: PyTree) -> FlowResult:
    return FlowResult(space.z_final, space.log_ratio, aux, space)


def _annealed(num_steps: int) -> dict[str, Any]:
    """What the annealed flows have in common."""
    return {
        "step_size": Learned(0.4, upper=1.5),
        "units": "posterior",
        "tempering": NullTempering(1.0),
        "bridge": LearnedBridge(num_steps),
        "eta": Learned(0.9),
        "max_force": MAX_FORCE,
    }


def _towards(
    b: Float[Array, ""] | None, evaluate: Callable, limit: Float[Array, " d"] | None
) -> ValueAndGrad:
    """z -> U_b and its gradient within the limit; U's own where there is no bridge."""
    if b is None:
        return evaluate if limit is None else lambda z: _within(limit, evaluate(z))
    return lambda z: _within(limit, between(b, evaluate(z)))


def _reweight(b: Float[Array, ""] | None, state: Any, limit: Float[Array, " d"] | None) -> Any:
    """A state that was met on another density of the bridge, with U_b and its gradient there."""
    if b is None:
        return state
    return state._replace(**_within(limit, between(b, state.aux))._asdict())


def _within(limit: Float[Array, " d"] | None, at: Evaluation) -> Evaluation:
    """An evaluation whose gradient is bounded in each dimension; NaN, from a potential that has
    overflowed, moves nothing."""
    if limit is None:
        return at
    bounded = jnp.clip(at.gradient, -limit, limit)
    return at._replace(gradient=jnp.where(jnp.isnan(bounded), 0.0, bounded))


def _check_step_sizes(value: Float[Array, "..."], num_steps: int) -> None:
    if value.ndim > 2 or (value.ndim == 2 and value.shape[0] != num_steps):
        raise ValueError(
            "step_size must have shape (), (d,), (K, 1) or (K, d) with K = num_steps = "
            f"{num_steps}, got {value.shape}."
        )
    check_positive(value, "step_size")


def _check_beta(beta: Float[Array, "..."], num_steps: int) -> None:
    if beta.shape != (num_steps + 1,):
        raise ValueError(
            f"the schedule must give one number per stage, shape ({num_steps + 1},), "
            f"got {beta.shape}."
        )
    if isinstance(beta, jax.core.Tracer):
        return
    if not np.all(np.isfinite(beta) & (np.asarray(beta) > 0)):
        raise ValueError(f"the schedule's inverse temperatures must be finite and > 0, got {beta}.")
