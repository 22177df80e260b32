"""From the rows of an estimator to a trained model."""

from dataclasses import replace
from typing import Any, NamedTuple, get_args

import jax
import numpy as np
from tqdm import tqdm

from hvax.checks import check_one_of
from hvax.data.batches import random_order
from hvax.data.source import Source
from hvax.data.split import Split
from hvax.hamiltonian.abstract_flow import AbstractFlow
from hvax.models.hvae import HVAE
from hvax.models.latent_model import AbstractLatentModel
from hvax.pipeline.likelihood import LikelihoodName
from hvax.pipeline.networks import build_vae, sizes_for
from hvax.pipeline.parts import prepared_parts
from hvax.pipeline.settings import settings_for
from hvax.training.fit import fit
from hvax.training.optimizers import default_optimizer
from hvax.training.phase import Fit

_FEWEST_VALIDATED = 4  # rows; fewer tell epochs apart by chance


class Plan(NamedTuple):
    """How a model is trained; None is chosen by the data."""

    latent_size: int | None
    hidden: tuple[int, ...] | None
    flow: AbstractFlow | None
    epochs: int | None
    batch_size: int | None
    patience: int | None
    learning_rate: float
    validation_fraction: float
    progress: bool


def trained(source: Source, likelihood: Any, plan: Plan, seed: int) -> tuple[Fit, int]:
    """The fit of a model to the rows of a source, and its latent size.

    Raises what `prepared_parts` and `fit` raise.
    """
    if likelihood is not None:
        check_one_of(likelihood, "`likelihood`", get_args(LikelihoodName))
    empty = np.flatnonzero(np.isnan(source.x).all(axis=0))
    if len(empty):
        raise ValueError(
            f"each column of X must have a value, got only missing ones in column {empty[0]}. "
            "Leave it out."
        )
    if likelihood == "categorical" and not source.holes:
        source = replace(source, x=source.x.astype(np.int64))
    indices = held_out(source.x, plan.validation_fraction, seed)
    parts = prepared_parts(source, indices, likelihood=likelihood, unbounded=True)
    sizes = sizes_for(parts, hidden=plan.hidden, latent_size=plan.latent_size)
    vae = build_vae(parts, sizes, key=jax.random.key(seed))
    model: AbstractLatentModel = vae if plan.flow is None else HVAE(vae, plan.flow)
    validated = len(parts.validation) > 0
    rows = len(parts.train)
    settings = settings_for(
        rows,
        gradients=0 if plan.flow is None else plan.flow.num_gradients,
        epochs=plan.epochs,
        batch_size=None if plan.batch_size is None else min(plan.batch_size, rows),
        patience=plan.patience if validated else 0,
        optimizer=default_optimizer(plan.learning_rate),
        seed=seed,
    )
    if plan.progress:
        for note in (*source.notes, *parts.notes):
            tqdm.write(f"HVAE: {note}")
    fitted = fit(
        model,
        parts.train,
        validation=parts.validation if validated else None,
        progress=plan.progress,
        **settings.arguments(),
    )
    return fitted, sizes.latent_size


def held_out(x: np.ndarray, fraction: float, seed: int) -> Split:
    """Rows for training and for validation. All are for training where those for validation would
    be fewer than 4, or hold all the values of a column."""
    n = len(x)
    number = int(fraction * n)
    order = random_order(n, seed)
    validation, train = np.sort(order[:number]), np.sort(order[number:])
    unknown = np.isnan(x[train]).all(axis=0)
    if number < _FEWEST_VALIDATED or len(train) < 2 or np.any(unknown):
        validation, train = order[:0], np.arange(n)
    return Split(train=train, validation=validation, test=order[:0])
