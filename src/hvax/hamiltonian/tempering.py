"""Tempering schedules: the inverse temperature beta_k at each stage k = 0 ... K of a flow."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hvax.checks import count, real_array
from hvax.parameters import AbstractParameter, Fixed, Learned, as_parameter

Schedule = Callable[[ArrayLike, int, int], ArrayLike]
"""(beta0, k, K) -> beta_k; `CustomTempering` says what a user's own schedule must satisfy."""


def quadratic_tempering(beta0: ArrayLike, k: ArrayLike, num_steps: int) -> Float[Array, "..."]:
    """Quadratic in 1/sqrt(beta): beta_k = ((1 - 1/sqrt(beta0)) (k/K)^2 + 1/sqrt(beta0))^-2.

    beta_0 = beta0 and beta_K = 1; for K = 0 the only stage has beta0. Raises `ValueError` for a
    beta0 outside (0, 1]. Caterini, Doucet and Sejdinovic (2018), Algorithm 1; the reference's
    default.
    """
    return _quadratic(_checked(beta0), k, num_steps)


def null_tempering(beta0: ArrayLike, k: ArrayLike, num_steps: int) -> Float[Array, "..."]:
    """No tempering: beta_k = beta0 at every stage. Raises as `quadratic_tempering` does."""
    return _null(_checked(beta0), k, num_steps)


def temperature_tempering(beta0: ArrayLike, k: ArrayLike, num_steps: int) -> Float[Array, "..."]:
    """Quadratic in the temperature: beta_k = 1 / ((1 - 1/beta0) (k/K)^2 + 1/beta0).

    beta_0 = beta0 and beta_K = 1; for K = 0 the only stage has beta0. The schedule of the paper's
    MNIST code. Raises as `quadratic_tempering` does.
    """
    return _temperature(_checked(beta0), k, num_steps)


# The same without a check. A model's beta0 was checked when it was created; if training has moved
# it out of range since, the model can still be inspected.


def _quadratic(beta0: Array, k: ArrayLike, num_steps: int) -> Float[Array, "..."]:
    # Written as 1 + a term that is exactly 0 at k = K, so that beta_K is exactly 1.
    return (1 + (1 / jnp.sqrt(beta0) - 1) * _one_minus_square(k, num_steps)) ** -2


def _null(beta0: Array, k: ArrayLike, num_steps: int) -> Float[Array, "..."]:
    return jnp.broadcast_to(beta0, jnp.shape(k))


def _temperature(beta0: Array, k: ArrayLike, num_steps: int) -> Float[Array, "..."]:
    return 1 / (1 + (1 / beta0 - 1) * _one_minus_square(k, num_steps))


def _one_minus_square(k: ArrayLike, num_steps: int) -> Float[Array, "..."]:
    """1 - (k / K)^2: 1 at the first stage and 0 at the last; for K = 0 the only stage has 1."""
    return 1 - (jnp.asarray(k) / max(num_steps, 1)) ** 2


def _checked(beta0: ArrayLike) -> Array:
    beta0 = real_array(beta0, "beta0")
    if not isinstance(beta0, jax.core.Tracer):
        _check_in_unit_interval(beta0, "beta0")
    return beta0


class AbstractTempering(eqx.Module):
    """A schedule of inverse temperatures; its parameters may be learned."""

    @abstractmethod
    def beta(self, num_steps: int) -> Float[Array, " stages"]:
        """beta_0 ... beta_K for a flow of K = num_steps steps; [beta_0] at K = 0."""


class QuadraticTempering(AbstractTempering):
    """The schedule `quadratic_tempering`, with beta0 in (0, 1] fixed, or `Learned`."""

    beta0: AbstractParameter

    def __init__(self, beta0: AbstractParameter | float = 0.3):
        self.beta0 = _inverse_temperature(beta0)

    def beta(self, num_steps: int) -> Float[Array, " stages"]:
        return _stages(_quadratic, self.beta0.value, num_steps)


class NullTempering(AbstractTempering):
    """The schedule `null_tempering`, with beta0 in (0, 1] fixed, or `Learned`."""

    beta0: AbstractParameter

    def __init__(self, beta0: AbstractParameter | float = 1.0):
        self.beta0 = _inverse_temperature(beta0)

    def beta(self, num_steps: int) -> Float[Array, " stages"]:
        return _stages(_null, self.beta0.value, num_steps)


class TemperatureTempering(AbstractTempering):
    """The schedule `temperature_tempering`, with beta0 in (0, 1] fixed, or `Learned`."""

    beta0: AbstractParameter

    def __init__(self, beta0: AbstractParameter | float = 0.3):
        self.beta0 = _inverse_temperature(beta0)

    def beta(self, num_steps: int) -> Float[Array, " stages"]:
        return _stages(_temperature, self.beta0.value, num_steps)


class FreeTempering(AbstractTempering):
    """Independent momentum scalings: sqrt(beta_{k-1} / beta_k) = alpha_k in (0, 1], beta_K = 1.

    `alpha` is a number or K numbers, `Learned` (by default starting at 0.9, as in the paper) or
    fixed. For flows of exactly `num_steps` steps; `ValueError` for others and for an alpha out of
    range. Caterini, Doucet and Sejdinovic (2018), section 4.2.
    """

    alpha: AbstractParameter
    num_steps: int = eqx.field(static=True)

    def __init__(self, num_steps: int, alpha: AbstractParameter | ArrayLike | None = None):
        num_steps = count(num_steps, "num_steps", least=0)
        scaling = Learned(0.9) if alpha is None else alpha
        if isinstance(scaling, Learned):
            raw = jnp.broadcast_to(scaling.raw, (num_steps,))
            scaling = eqx.tree_at(lambda p: p.raw, scaling, raw)
        elif not isinstance(scaling, AbstractParameter):
            scaling = Fixed(
                jnp.broadcast_to(real_array(scaling, "alpha").astype(float), (num_steps,))
            )
        self.alpha = _in_unit_interval(scaling, "alpha")
        self.num_steps = num_steps

    def beta(self, num_steps: int) -> Float[Array, " stages"]:
        if num_steps != self.num_steps:
            raise ValueError(
                f"FreeTempering must have one scaling per step of the flow, {num_steps}, got "
                f"{self.num_steps}. Use FreeTempering({num_steps})."
            )
        alpha = self.alpha.value
        return jnp.append(jnp.cumprod(alpha[::-1] ** 2)[::-1], jnp.ones((), alpha.dtype))


class CustomTempering(AbstractTempering):
    """A schedule of the user's own: any callable (beta0, k, K) -> beta_k.

    It is called at the Python integers k = 0 ... K; beta0 may be traced. What it returns must be
    finite and > 0; above 1 is allowed. At K = 0 it is not called.
    """

    schedule: Schedule
    beta0: AbstractParameter

    def __init__(self, schedule: Schedule, beta0: AbstractParameter | float = 0.3):
        if not callable(schedule):
            raise TypeError(f"schedule must be callable (beta0, k, K) -> beta_k, got {schedule!r}.")
        self.schedule = schedule
        self.beta0 = _inverse_temperature(beta0)

    def beta(self, num_steps: int) -> Float[Array, " stages"]:
        beta0 = self.beta0.value
        if num_steps == 0:
            return beta0[None]
        stages = [self.schedule(beta0, k, num_steps) for k in range(num_steps + 1)]
        return jnp.stack([jnp.asarray(stage, beta0.dtype) for stage in stages])


def check_schedule(beta: Float[Array, "..."], num_steps: int) -> None:
    """Raise `ValueError` unless a schedule has a finite number > 0 for each of K + 1 stages."""
    if beta.shape != (num_steps + 1,):
        raise ValueError(
            f"the schedule must give one number per stage, shape ({num_steps + 1},), "
            f"got {beta.shape}."
        )
    if isinstance(beta, jax.core.Tracer):
        return
    if not np.all(np.isfinite(beta) & (np.asarray(beta) > 0)):
        raise ValueError(
            f"the schedule's inverse temperatures must be finite and > 0, got {np.asarray(beta)!s}."
        )


def _stages(schedule: Callable, beta0: Float[Array, ""], num_steps: int) -> Float[Array, " stages"]:
    if num_steps == 0:
        return beta0[None]
    return schedule(beta0, jnp.arange(num_steps + 1, dtype=beta0.dtype), num_steps)


def _inverse_temperature(beta0: AbstractParameter | float) -> AbstractParameter:
    parameter = _in_unit_interval(as_parameter(beta0, "beta0"), "beta0")
    if parameter.value.shape != ():
        raise ValueError(f"beta0 must be one number, got shape {parameter.value.shape}.")
    return parameter


def _in_unit_interval(parameter: AbstractParameter, name: str) -> AbstractParameter:
    if isinstance(parameter, Learned) and parameter.upper > 1:
        raise ValueError(f"a learned {name} must have upper <= 1, got upper={parameter.upper}.")
    if not isinstance(parameter.value, jax.core.Tracer):
        _check_in_unit_interval(parameter.value, name)
    return parameter


def _check_in_unit_interval(value: Array, name: str) -> None:
    known = np.asarray(value)
    if not np.all((known > 0) & (known <= 1)):
        raise ValueError(f"{name} must be in (0, 1], got {known}.")
