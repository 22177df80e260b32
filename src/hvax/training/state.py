"""The state of training, and one step of it."""

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
from hvax.models.latent_model import AbstractLatentModel, Draw
from hvax.objectives import as_batch, each, finite_or_zero_weight, loss, mean_bound
from hvax.parameters import trainable
from hvax.training.flow_start import can_shrink, with_smaller_steps

LossFunction = Callable[..., Any]
"""loss_function(model, batch, *, key, **loss_kwargs) -> one number, or (number, dict of numbers to
report), of a `Batch`."""

ROUGH = 100.0
"""A trajectory with an energy error above so many nats asks for shorter steps of the flow."""

# With some such trajectories in a batch learned step sizes are made shorter: in the gradient they
# have no say, as the one in a thousand that is far from stable is clipped. A batch with many would
# undo in one update what training has done, and is left out.
_MOST_ROUGH, _AFTER_ONE, _AFTER_MANY = 0.1, 0.8, 0.5

HISTORY = frozenset({"epoch", "step", "seconds", "skipped", "loss"})
"""What a history says of each epoch, beside what the loss function reports."""


class TrainState(eqx.Module):
    """A model in training: everything that the next step depends on but its data.

    The noise of step t is `fold_in(key, t)`, so nothing random is carried from step to step.
    """

    model: PyTree
    opt_state: PyTree
    step: Int[Array, ""]
    key: PRNGKeyArray
    optimizer: optax.GradientTransformation = eqx.field(static=True)


def train_state(
    model: PyTree, optimizer: optax.GradientTransformation, *, key: PRNGKeyArray
) -> TrainState:
    """The state before the first step. The optimizer sees what `trainable` says is learned."""
    check_kind(model, "model", eqx.Module)
    check_key(key)
    check_optimizer(optimizer, model)
    return state_before(model, optimizer, key=key)


def state_before(
    model: PyTree, optimizer: optax.GradientTransformation, *, key: PRNGKeyArray
) -> TrainState:
    """`train_state` of what was checked."""
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
    """One compiled optimizer step on one batch: the new state, and the loss before the step.

    Where the loss or a gradient is not finite, model and optimizer stay as they were. Learned step
    sizes of a flow are made shorter where trajectories of the batch have energy errors above 100
    nats; where one in ten has, nothing else is moved.

    `loss_function` is `loss` where it is not given.
    Numbers in `loss_kwargs`, alone or in lists, are traced: a new value compiles nothing; integers
    and everything else are static.
    """
    batch = as_batch(x, target)
    if loss_function is None:
        loss_function = default_loss(state.model)
    kwargs = traced_numbers(loss_kwargs or {})
    done = _compiled_update(state, batch, loss_function, kwargs)
    return done.state, done.loss


def check_optimizer(optimizer: optax.GradientTransformation, model: PyTree) -> None:
    """Refuses an optimizer that fails at its first step, by a step on shapes alone."""
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
            "with optax's extra arguments value, grad and value_fn at hand; this one fails with "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}. Take another, such as "
            "optax.adam(1e-3)."
        ) from error


def _as_before(new: Any, old: Any) -> Any:
    """A leaf of an optimizer's state with the dtype that it began with: the compiled loop carries
    it on."""
    if not eqx.is_array(old):
        return new
    if jnp.shape(new) != old.shape:
        raise ValueError(f"its state changes shape, from {old.shape} to {jnp.shape(new)}")
    return jnp.asarray(new, old.dtype)


class Update(NamedTuple):
    """What one optimizer step did."""

    state: TrainState
    loss: Float[Array, ""]
    report: dict[str, Array]
    finite: Bool[Array, ""]  # the loss and its whole gradient; else the model is as it was


def update(
    state: TrainState,
    batch: Batch,
    loss_function: LossFunction,
    loss_kwargs: Mapping[str, Any],
) -> Update:
    """`train_step` without the compilation, with the loss function's report."""
    learned, held = eqx.partition(state.model, trainable(state.model))
    key = jax.random.fold_in(state.key, state.step)

    def objective(learned: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], dict[str, Array]]:
        model = eqx.combine(learned, held)
        value = loss_function(model, batch, key=key, **loss_kwargs)
        value, report = value if isinstance(value, tuple) else (value, {})
        report = {name: jnp.asarray(number) for name, number in report.items()}
        if taken := report.keys() & HISTORY:
            raise ValueError(
                f"loss_function must not report {', '.join(sorted(taken))}: the history has that."
            )
        if jnp.shape(value) != ():
            raise ValueError(f"loss_function must return one number, got {jnp.shape(value)}.")
        return value, report

    (value, report), gradient = jax.value_and_grad(objective, has_aux=True)(learned, key)

    def on_same_noise(learned: PyTree) -> Float[Array, ""]:  # a line search compares its values
        return objective(learned, jax.random.clone(key))[0]

    # What those of optax ask for that look at the loss itself: line searches, and schedules by it.
    optimizer = optax.with_extra_args_support(state.optimizer)
    extra = {"value": value, "grad": gradient, "value_fn": on_same_noise}
    updates, opt_state = optimizer.update(gradient, state.opt_state, learned, **extra)
    opt_state = jax.tree.map(_as_before, opt_state, state.opt_state)
    finite = jnp.isfinite(value)
    for leaf in jax.tree.leaves(gradient):
        finite &= jnp.all(jnp.isfinite(leaf))
    rough = report.pop("rough", None)
    steady, factor = finite, jnp.ones(())
    if rough is not None and can_shrink(state.model):
        steady = finite & (rough <= _MOST_ROUGH)
        shorter = jnp.where(rough <= _MOST_ROUGH, _AFTER_ONE, _AFTER_MANY)
        factor = jnp.where(finite & (rough > 0), shorter, 1.0)
    learned = _where(steady, eqx.apply_updates(learned, updates), learned)
    opt_state = _where(steady, opt_state, state.opt_state)
    model = with_smaller_steps(eqx.combine(learned, held), factor)
    state = TrainState(model, opt_state, state.step + 1, state.key, state.optimizer)
    return Update(state, value, report, finite)


def _where(condition: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b) if eqx.is_array(a) else a, new, old)


_compiled_update = eqx.filter_jit(update)


@cache
def _reporting_loss(num_samples: int) -> LossFunction:
    """One object for one choice: a compiled step is kept for as long as its loss is the same."""
    return partial(_loss_with_report, num_samples=num_samples)


def default_loss(model: PyTree, num_samples: int = 1) -> LossFunction:
    """`loss`, which also reports the ELBO, diverged trajectories of a flow, and with several draws
    an example their bound."""
    check_kind(model, "model", AbstractLatentModel)
    return _reporting_loss(num_samples)


def traced_numbers(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Floats, and sequences of numbers, as arrays, so that new values do not compile anew."""

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
    rough = each(draws, lambda draw: ~jnp.all(jnp.abs(draw.trajectory.energy_errors) <= ROUGH))
    return {
        "divergent": jnp.mean(divergent, dtype=dtype),
        "rough": jnp.mean(rough, dtype=dtype),
    }
