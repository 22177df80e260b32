"""Training an HVAE in two phases: the plain VAE inside it first, its flow from a later epoch on."""

from pathlib import Path
from typing import Any

import equinox as eqx

from hvax.batch import Batch
from hvax.exceptions import FlowFailed, warn
from hvax.models.hvae import HVAE
from hvax.storage.run_folder import BEFORE_FLOW, MODEL, check_unused, write_plan
from hvax.storage.structure import save
from hvax.training.flow_start import switched_off
from hvax.training.options import TrainingOptions
from hvax.training.phase import Fit, train_phase
from hvax.wording import counted, named

_ON_REQUEST = ("interrupted", "terminated", "callback")
# Nats that the validation bound with a flow may be below that of its VAE; if no epoch with the flow
# was better than its start, nats that the start must be above.
_MARGIN = 0.05


def vae_then_flow(
    model: HVAE,
    data: Batch,
    held_out: Batch | None,
    options: TrainingOptions,
    *,
    flow_from_epoch: int,
    run_dir: Path | None,
) -> Fit:
    """Train the plain VAE before `flow_from_epoch` >= 2, then the flow from the best of its models.

    If the flow fails, leaves the validation bound below that of the plain VAE, or improves it in
    none of its epochs, it is switched off, with a `FlowFailed` warning. A flow that helps as it
    was turned on, but that training does not improve, is kept so, with a note.
    """
    if run_dir is not None:
        if not options.resume:
            check_unused(run_dir)
        write_plan(run_dir, flow_from_epoch)
    before = train_phase(
        model.vae,
        data,
        held_out,
        options.with_epochs(flow_from_epoch - 1),
        run_dir=None if run_dir is None else run_dir / BEFORE_FLOW,
    )
    with_flow = eqx.tree_at(lambda m: m.vae, model, before.model)
    if before.ended in _ON_REQUEST:
        return before._replace(model=with_flow)
    done = len(before.history)
    try:
        after = train_phase(
            with_flow,
            data,
            held_out,
            options.after_epochs(done, options.epochs - flow_from_epoch + 1),
            run_dir=run_dir,
            stabilize=True,
            score_start=True,
        )
    except FloatingPointError as error:
        before = before._replace(vae_epochs=done)
        return _switched_off(before, with_flow, run_dir, "flow failed", str(error))
    learned = after.best_epoch > 0  # else the best is the flow as it was turned on
    joined = after._replace(
        history=concatenate_histories(before.history, after.history),
        best_epoch=after.best_epoch + done if learned else before.best_epoch,
        vae_epochs=done,
        skipped=before.skipped + after.skipped,
        seconds_compiling=before.seconds_compiling + after.seconds_compiling,
        seconds_training=before.seconds_training + after.seconds_training,
    )
    # A training that was stopped on request can be resumed, and its flow may yet help.
    if held_out is None or after.ended in _ON_REQUEST:
        return joined
    gain = after.best_bound - before.best_bound
    epochs = counted(len(after.history), "epoch")
    if learned and not gain >= -_MARGIN:
        why = (
            f"the flow left the validation bound at {after.best_bound:.4g}, below the "
            f"{before.best_bound:.4g} of the plain VAE."
        )
    elif not learned and not gain >= _MARGIN:
        why = (
            f"the flow did not improve on the plain VAE in {epochs}: the best validation bound "
            f"with it is the one that it started from, {after.best_bound:.4g}; without it "
            f"{before.best_bound:.4g}."
        )
    elif not learned:
        note = (
            f"training did not improve the flow in {epochs}: it is kept as it was turned on, "
            f"{gain:.2g} nats of the validation bound above the plain VAE"
        )
        return joined._replace(notes=(note,))
    else:
        return joined
    return _switched_off(joined, with_flow, run_dir, "flow of no use", why)


def _switched_off(fitted: Fit, model: HVAE, run_dir: Path | None, ended: str, why: str) -> Fit:
    """The result with the plain VAE as its model: an HVAE whose flow has no steps."""
    warn(
        FlowFailed,
        f"{why} The flow was switched off: the model is the plain VAE (num_steps = 0). For a flow "
        f"that helps, try a smaller {named('step_size')} or more {named('epochs')}.",
    )
    model = switched_off(model)
    if run_dir is not None:
        save(model, run_dir / MODEL)
    return fitted._replace(model=model, ended=ended)


def concatenate_histories(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The history of two phases as one: the epochs of the second count on."""
    return before + [row | {"epoch": row["epoch"] + len(before)} for row in after]
