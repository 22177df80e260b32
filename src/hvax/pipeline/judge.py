"""The warnings that a trained model deserves, each with what to do."""

import math
import shlex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.examples import Examples
from hvax.evaluation.table import note
from hvax.exceptions import StillImproving, WorseThanIndependent, warn
from hvax.pipeline.references import is_worse, why_worse
from hvax.pipeline.table import untrusted_words_of
from hvax.pipeline.trained import Trained
from hvax.training.phase import Fit
from hvax.wording import words

_STILL = 0.1  # nats that the validation bound may rise in the last tenth of all epochs


def judge(trained: Trained, name: str, test: Examples, independent: NDArray[np.float64]) -> None:
    """Warn of what stands against the numbers of one of the models.

    `independent` is log p of each test example under independent features.
    """
    scored, parts = trained.results[name], trained.parts
    note(scored.scores, untrusted_words_of(trained, name))
    improving = _still_improves(scored.fit)
    if improving and name == trained.name:
        warn(
            StillImproving,
            f"the validation ELBO of {scored.label} still rose by "
            f"{rise_at_the_end(scored.fit.history):.2g} nats in the last tenth of its epochs. Go "
            f"on with: {_longer(trained)}",
        )
    log_p = scored.scores.per_point.log_p
    if is_worse(log_p, independent, math.prod(parts.train.x_shape)):
        warn(
            WorseThanIndependent,
            f"{scored.label} has a test NLL of {scored.scores.nll:.4g}, worse than the "
            f"{-independent.mean():.4g} of independent features. "
            + why_worse(
                scored.model,
                parts,
                test,
                log_p=log_p,
                independent=independent,
                longer=_longer(trained) if improving or _is_short(scored.fit) else None,
            ),
        )


def rise_at_the_end(history: list[dict[str, Any]]) -> float:
    """By how many nats the best validation ELBO of the last tenth of the epochs (of those with the
    flow, where there is one) is above that of those before; 0 where there are too few to say."""
    flowed = "divergent" in history[-1]
    bounds = [
        row["validation_elbo"]
        for row in history
        if "validation_elbo" in row and ("divergent" in row) == flowed
    ]
    last = len(bounds) // 10
    return max(bounds[-last:]) - max(bounds[:-last]) if last else 0.0


def _still_improves(fitted: Fit) -> bool:
    return fitted.ended == "finished" and rise_at_the_end(fitted.history) > _STILL


def _is_short(fitted: Fit) -> bool:
    """Whether all epochs were used, and were too few to say whether the bound still rose."""
    return fitted.ended == "finished" and len(fitted.history) < 10


def _longer(trained: Trained) -> str:
    """The call or command that goes on with a training, to twice its epochs."""
    epochs, folder = 2 * trained.settings.epochs, trained.run_dir
    again = "" if folder is None else f", run_dir={str(folder)!r}, resume=True"
    return words(
        f"hvax.train(..., epochs={epochs}{again})",
        f"hvax train {shlex.quote(trained.parts.name)} --run-dir {shlex.quote(str(folder))} "
        f"--resume --epochs {epochs}",
    )
