"""The Hamiltonian flow: its options, presets and trained parameters; transport.py moves points."""

from typing import Any

import equinox as eqx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

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
from hvax.hamiltonian.momentum import AbstractMomentum, GaussianMomentum, momentum_or_eta
from hvax.hamiltonian.phase_space import PhaseSpace, Stages
from hvax.hamiltonian.presets import preset_options
from hvax.hamiltonian.step_size import (
    AffineStepSize,
    Units,
    check_mass,
    check_step_sizes,
    check_units,
    in_unit_mass,
)
from hvax.hamiltonian.tempering import AbstractTempering, NullTempering, check_schedule
from hvax.hamiltonian.transport import Transport
from hvax.parameters import AbstractParameter, as_parameter


class HamiltonianFlow(AbstractFlow):
    """K transitions on a potential z -> U, or z -> (U, aux).

        rho_0 = gamma / sqrt(beta_0),  gamma ~ N(0, I)
        for k = 1 ... K:
            rho    = eta rho + sqrt(1 - eta^2) xi / sqrt(beta_{k-1}),  xi ~ N(0, I)
            z, rho = L leapfrog steps from (z, rho) on b_k U(z) - (1 - b_k) log q(z)
            rho    = sqrt(beta_{k-1} / beta_k) rho

    with q the density that z_0 was drawn from. The defaults are the simplest choices: leapfrog
    steps of a fixed size on U itself, without refreshment or tempering. For training use the
    presets `hvae`, `uha`, `dais` and `ula` (docs/flows.md). A flow of K >= 1 transitions evaluates
    the gradient of the potential K L + 1 times; with K = 0 it evaluates only the potential, once.
    Caterini, Doucet and Sejdinovic (2018), Algorithm 1.

    **Arguments:**

    - `num_steps`: K, an integer >= 0.
    - `step_size`: > 0, of shape `()`, `(d,)`, `(K, 1)` or `(K, d)`, or an `AffineStepSize`;
      numbers and arrays stay fixed, `Learned(initial, upper=...)` is trained.
    - `tempering`: the schedule of inverse temperatures; None is `NullTempering(1.0)`, no tempering.
    - `gradient`: `"reverse"`, `"forward"`, `"taylor"`, `"finite"`, or a method such as
      `FiniteDifference("forward")`; also used for log q.
    - `remat`: whether the backward pass recomputes each transition from its position and momentum:
      memory then hardly grows with K, at about the same speed on a CPU.
    - `bridge`: K increasing weights b_k in (0, 1], a `FixedBridge` or `LearnedBridge`; None is 1.
    - `eta`: the fraction of the momentum that is kept, in [0, 1], a number or `Learned(0.9)`; 1,
      the default, keeps it all and draws no noise. Short for `momentum=GaussianMomentum(eta)`.
    - `momentum`: the momentum kernel, instead of `eta`.
    - `leapfrog_steps`: L, an integer >= 1.
    - `mass`: diagonal masses m > 0 of shape `()` or `(d,)`, a number, an array, or learned. Momenta
      are stored in units of unit mass, rho / sqrt(m), so m only divides step sizes by sqrt(m).
    - `units`: the unit of step sizes: `"latent"`, 1 in each dimension of z, or `"posterior"`, the
      standard deviation of q in that dimension: a mass of 1 / sigma(x)^2 for each data point.
    - `integrator`: `"velocity"`, the leapfrog of the papers above, or `"position"`, with K L
      gradients and one value.
    - `max_force`: a limit of |dU/dz_i|, in units of 1 / (unit of z_i); None is no limit. A kick by
      any function of z preserves volume, so the log-weight stays exact, while no trajectory runs
      away, however steep the potential.

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
            raise ValueError(
                "bridge must be given with an AffineStepSize, which depends on its weights."
            )
        self.step_size = step_size
        self.tempering = NullTempering(1.0) if tempering is None else tempering
        self.gradient = gradient_method(gradient)
        self.remat = remat
        self.bridge = None if bridge is None else as_bridge(bridge)
        self.momentum = momentum_or_eta(momentum, eta)
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

        `options` are arguments of the class and override the table's. Raises `ValueError` for an
        unknown name.
        """
        return cls(**preset_options(name, num_steps, options))

    @classmethod
    def hvae(cls, num_steps: int = 4, **options: Any) -> "HamiltonianFlow":
        """The flow of the Hamiltonian VAE: no bridge, no refreshment, a learned beta_0.

        As in `uha`, `dais` and `ula`, the step size is learned, in units of q's standard
        deviations, and the force is limited. `options` are arguments of the class.
        """
        return cls.preset("hvae", num_steps, **options)

    @classmethod
    def uha(cls, num_steps: int = 4, **options: Any) -> "HamiltonianFlow":
        """Uncorrected Hamiltonian annealing: a learned bridge, eta and step size, no tempering."""
        return cls.preset("uha", num_steps, **options)

    @classmethod
    def dais(cls, num_steps: int = 4, **options: Any) -> "HamiltonianFlow":
        """Differentiable annealed importance sampling: `uha` with position Verlet.

        It takes K gradients and one value of the potential.
        """
        return cls.preset("dais", num_steps, **options)

    @classmethod
    def ula(cls, num_steps: int = 4, **options: Any) -> "HamiltonianFlow":
        """Unadjusted Langevin: `uha` with eta = 0, a new momentum for each transition."""
        return cls.preset("ula", num_steps, **options)

    @classmethod
    def reference(cls, num_steps: int = 3, **options: Any) -> "HamiltonianFlow":
        """The defaults of the Julia reference: tempering from beta_0 = 0.3, nothing learned.

        Step sizes are in latent units, but not the reference's 1e-4, at which nothing moves
        (docs/from-julia.md).
        """
        return cls.preset("reference", num_steps, **options)

    @property  # type: ignore[misc]
    def num_gradients(self) -> int:  # type: ignore[override]
        """K L: about how many gradients a call takes (velocity Verlet takes one more)."""
        return self.num_steps * self.leapfrog_steps

    @property
    def eta(self) -> AbstractParameter | None:
        """The kept fraction of a Gaussian momentum; None if it is 1, or for another kernel."""
        return self.momentum.eta if isinstance(self.momentum, GaussianMomentum) else None

    @property
    def step_sizes(self) -> Float[Array, "..."]:
        """The step sizes in `units`, for unit mass; of shape `()`, `(d,)`, `(K, 1)` or `(K, d)`."""
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
        """The flow from z with new momenta, on a potential z -> U or z -> (U, aux).

        `start` is q, the density that z was drawn from: a bridge uses its `log_prob`, and
        `units="posterior"` its `sigma`. The result's trajectory is a `PhaseSpace`; its log_ratio,
        in nats, is that of the momenta (`AbstractMomentum`), for Gaussian ones

            |gamma|^2 / 2 - beta_K |rho_K|^2 / 2 + sum_k log N(rho_{k-1}) - log N(rho'_k)

        as all other terms cancel exactly. Raises `TypeError` and `ValueError` for arguments of the
        wrong type or shape.
        """
        check_callable(potential, "potential")
        check_key(key)
        z = vector(z, "z")
        gamma, xi = self.momenta(z, key=key)
        return self.transport(with_aux(potential), z=z, gamma=gamma, xi=xi, start=start)

    def momenta(
        self, z: Float[Array, " d"], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " d"], Float[Array, "K d"] | None]:
        """The noise of a flow from z: gamma (d,), and xi (K, d), None without refreshment."""
        return self.momentum.noise(z, num_steps=self.num_steps, key=key)

    def transport(
        self,
        potential: Potential,
        *,
        z: Float[Array, " d"],
        gamma: Float[Array, " d"],
        xi: Float[Array, "K d"] | None = None,
        start: Start | None = None,
    ) -> FlowResult:
        """The flow from z as a deterministic function of its noise; see `momenta`."""
        return self._transport()(potential, z=z, gamma=gamma, xi=xi, start=start)[0]

    def stages(
        self,
        potential: Potential,
        *,
        z: Float[Array, " d"],
        gamma: Float[Array, " d"],
        xi: Float[Array, "K d"] | None = None,
        start: Start | None = None,
    ) -> tuple[PhaseSpace, Stages]:
        """The trajectory of `transport`, with the state after each transition."""
        return self._transport().stages(potential, z=z, gamma=gamma, xi=xi, start=start)

    def _transport(self) -> Transport:
        """The same flow with its schedules and step sizes as arrays."""
        K = self.num_steps
        return Transport(
            num_steps=K,
            leapfrog_steps=self.leapfrog_steps,
            step_sizes=self.step_sizes,
            units=self.units,
            beta=self.tempering.beta(K),
            b=None if self.bridge is None else self.bridge.weights(K),
            momentum=self.momentum,
            integrator=self.integrator,
            gradient=self.gradient,
            max_force=self.max_force,
            remat=self.remat,
        )
