"""The state of training, and one optimizer step."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from hvax.batch import Batch
from hvax.checks import check_key, check_kind
from hvax.hamiltonian.phase_space import PhaseSpace
from hvax.models.draw_batch import as_batch, each
from hvax.models.latent_model import AbstractLatentModel, Draw, check_model
from hvax.objectives import finite_or_zero_weight, loss, mean_bound
from hvax.parameters import trainable
from hvax.training.flat import join_small
from hvax.training.flow_start import can_shrink, with_smaller_steps

LossFunction = Callable[..., Any]
"""(model, batch, *, key, **loss_kwargs) -> loss, or (loss, dict of numbers to report)."""

LARGE_ENERGY_ERROR = 100.0
"""Nats: a trajectory with a larger energy error makes the flow's learned step sizes shrink."""

# The gradient cannot shrink them: the one trajectory in a thousand that is far from stable is
# clipped away. So a batch with any such trajectory multiplies them by 0.8. A batch with more than a
# tenth of them would undo training with a single update: it is skipped, and the factor is 0.5.
_MANY, _AFTER_ANY, _AFTER_MANY = 0.1, 0.8, 0.5

HISTORY = frozenset({"epoch", "step", "seconds", "skipped", "loss"})
"""What every entry of a history has: a loss function must not report numbers of these names."""


class TrainState(eqx.Module):
    """Everything that the next training step depends on, except its data.

    The noise of step t comes from `fold_in(key, t)`: no random state is carried between steps.
    """

    model: PyTree
    opt_state: PyTree
    step: Int[Array, ""]
    key: PRNGKeyArray
    optimizer: optax.GradientTransformation = eqx.field(static=True)


def train_state(
    model: PyTree, optimizer: optax.GradientTransformation, *, key: PRNGKeyArray
) -> TrainState:
    """The state before the first step, with the optimizer's state of the trainable parameters.

    Raises `TypeError` for what is no module, optimizer or key, and `ValueError` for an optimizer
    that cannot take a step.
    """
    check_kind(model, "model", eqx.Module)
    check_key(key)
    check_optimizer(optimizer, model)
    return state_before(model, optimizer, key=key)


def state_before(
    model: PyTree, optimizer: optax.GradientTransformation, *, key: PRNGKeyArray
) -> TrainState:
    """`train_state` without its checks."""
    opt_state = optimizer.init(eqx.filter(model, trainable(model)))
    return TrainState(model, opt_state, jnp.zeros((), jnp.int32), key, optimizer)


def train_step(
    state: TrainState,
    x: Array | np.ndarray | Batch,
    target: Array | np.ndarray | None = None,
    *,
    loss_function: LossFunction | None = None,
    loss_kwargs: Mapping[str, Any] | None = None,
) -> tuple[TrainState, Float[Array, ""]]:
    """One compiled optimizer step on one batch: returns the new state and the loss before the step.

    If the loss or a gradient is not finite, the update is skipped. If trajectories of the batch
    have energy errors above 100 nats, the flow's learned step sizes shrink; if more than a tenth
    have, the update is skipped as well.

    **Arguments:**

    - `x`, `target`: arrays (batch, ...), or a `Batch` as x.
    - `loss_function`: (model, batch, *, key, **loss_kwargs) -> loss; by default `hvax.loss`.
    - `loss_kwargs`: its keyword arguments. Floats, and lists of numbers, are traced: new values do
      not compile again. Integers and everything else are static.

    Raises `TypeError` and `ValueError` for data of the wrong type or shape.
    """
    batch = as_batch(x, target)
    if loss_function is None:
        loss_function = default_loss(state.model)
    kwargs = traced_numbers(loss_kwargs or {})
    done = _compiled_update(state, batch, loss_function, kwargs)
    return done.state, done.loss


def check_optimizer(optimizer: optax.GradientTransformation, model: PyTree) -> None:
    """Raise `ValueError` for an optimizer whose first step fails (traced, nothing is computed)."""
    check_kind(optimizer, "optimizer", optax.GradientTransformation)

    def step(learned: PyTree) -> PyTree:
        def value(learned: PyTree) -> Float[Array, ""]:
            return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(learned)), jnp.zeros(()))

        state = optimizer.init(learned)
        extra = {"value": value(learned), "grad": learned, "value_fn": value}
        steps = optax.with_extra_args_support(optimizer)
        updates, after = steps.update(learned, state, learned, **extra)
        jax.tree.map(_as_before, after, state)
        return eqx.apply_updates(learned, updates)

    try:
        jax.eval_shape(step, eqx.filter(model, trainable(model)))
    except Exception as error:
        raise ValueError(
            "optimizer must take a step from init(params) and update(gradient, state, params), "
            "with optax's extra arguments value, grad and value_fn, got one that fails with "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}. Use another, such as "
            "optax.adam(1e-3)."
        ) from error


def _as_before(new: Any, old: Any) -> Any:
    """A leaf of an optimizer's state in its first dtype, as the compiled loop's carry requires."""
    if not eqx.is_array(old):
        return new
    if jnp.shape(new) != old.shape:
        raise ValueError(f"its state must keep its shapes, got {old.shape} and {jnp.shape(new)}")
    return jnp.asarray(new, old.dtype)


class Update(NamedTuple):
    """The result of one optimizer step."""

    state: TrainState
    loss: Float[Array, ""]
    report: dict[str, Array]
    finite: Bool[Array, ""]  # whether loss and gradient were; else the update was skipped


def update(
    state: TrainState,
    batch: Batch,
    loss_function: LossFunction,
    loss_kwargs: Mapping[str, Any],
) -> Update:
    """`train_step` without compilation, with the numbers that the loss function reports."""
    learned, fixed = eqx.partition(state.model, trainable(state.model))
    key = jax.random.fold_in(state.key, state.step)

    def objective(learned: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], dict[str, Array]]:
        model = eqx.combine(learned, fixed)
        value = loss_function(model, batch, key=key, **loss_kwargs)
        value, report = value if isinstance(value, tuple) else (value, {})
        report = {name: jnp.asarray(number) for name, number in report.items()}
        if taken := report.keys() & HISTORY:
            raise ValueError(
                f"loss_function must not report {', '.join(sorted(taken))}, which the history has. "
                "Use another name."
            )
        if jnp.shape(value) != ():
            raise ValueError(f"loss_function must return one number, got {jnp.shape(value)}.")
        return value, report

    (value, report), gradient = jax.value_and_grad(objective, has_aux=True)(learned, key)

    # A line search compares values of the loss, which makes sense on the same noise only.
    def on_same_noise(learned: PyTree) -> Float[Array, ""]:
        return objective(learned, jax.random.clone(key))[0]

    # Extra arguments for optax's line searches and for schedules that react to the loss.
    optimizer = optax.with_extra_args_support(state.optimizer)
    extra = {"value": value, "grad": gradient, "value_fn": on_same_noise}
    updates, opt_state = optimizer.update(gradient, state.opt_state, learned, **extra)
    opt_state = jax.tree.map(_as_before, opt_state, state.opt_state)
    finite = jnp.isfinite(value)
    for leaf in join_small(gradient)[0]:
        finite &= jnp.all(jnp.isfinite(leaf))
    large_errors = report.pop("large_errors", None)  # fraction of the batch's trajectories
    accepted, factor = finite, jnp.ones(())
    if large_errors is not None and can_shrink(state.model):
        accepted = finite & (large_errors <= _MANY)
        shorter = jnp.where(large_errors <= _MANY, _AFTER_ANY, _AFTER_MANY)
        factor = jnp.where(finite & (large_errors > 0), shorter, 1.0)
    learned = _where(accepted, eqx.apply_updates(learned, updates), learned)
    opt_state = _where(accepted, opt_state, state.opt_state)
    model = with_smaller_steps(eqx.combine(learned, fixed), factor)
    state = TrainState(model, opt_state, state.step + 1, state.key, state.optimizer)
    return Update(state, value, report, finite)


def _where(condition: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b) if eqx.is_array(a) else a, new, old)


_compiled_update = eqx.filter_jit(update)


@cache
def _reporting_loss(num_samples: int) -> LossFunction:
    """The default loss; cached, because compiled steps are shared by identity of their loss."""
    return partial(_loss_with_report, num_samples=num_samples)


def default_loss(model: PyTree, num_samples: int = 1) -> LossFunction:
    """`hvax.loss` as a `LossFunction` that also reports what the history shows.

    It reports "elbo" in nats, with several samples "bound" in nats, and for a `HamiltonianFlow`
    "divergent", the fraction of diverged trajectories.
    """
    check_model(model)
    return _reporting_loss(num_samples)


def traced_numbers(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Floats, and sequences of numbers, as arrays: new values then do not compile again."""

    def traced(value: Any) -> Any:
        if isinstance(value, float):
            return jnp.asarray(value, dtype=float)
        if isinstance(value, Mapping):
            return traced_numbers(value)
        numbers = isinstance(value, list | tuple) and all(
            isinstance(item, int | float) and not isinstance(item, bool) for item in value
        )
        return jnp.asarray(value, dtype=float) if numbers else value

    return {name: traced(value) for name, value in kwargs.items()}


def _loss_with_report(
    model: AbstractLatentModel, batch: Batch, **kwargs: Any
) -> tuple[Array, dict[str, Array]]:
    value, draws = loss(model, batch, return_draws=True, **kwargs)
    return value, _bounds(draws) | _trajectory_report(draws, value.dtype)


def _bounds(draws: Draw) -> dict[str, Float[Array, ""]]:
    log_w = finite_or_zero_weight(draws.log_weight)
    elbo = {"elbo": jnp.mean(log_w)}
    return elbo if log_w.ndim == 1 else elbo | {"bound": mean_bound(log_w)}


def _trajectory_report(draws: Draw, dtype: Any) -> dict[str, Float[Array, ""]]:
    if not isinstance(draws.trajectory, PhaseSpace):
        return {}
    divergent = each(draws, lambda draw: draw.trajectory.divergent)
    # Written as a negated <=, so that NaN counts as large.
    large = each(
        draws,
        lambda draw: ~jnp.all(jnp.abs(draw.trajectory.energy_errors) <= LARGE_ENERGY_ERROR),
    )
    return {
        "divergent": jnp.mean(divergent, dtype=dtype),
        "large_errors": jnp.mean(large, dtype=dtype),
    }
