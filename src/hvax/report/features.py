"""Which features of a table are shown, and how well a model does on each."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num
from numpy.typing import NDArray

from hvax.report.chosen import spaced
from hvax.report.figures.scale import scale_for
from hvax.report.names import Classes

_QUANTILES = np.linspace(2, 98, 25)


class Shown(NamedTuple):
    """Some features, and a score of each; NaN where a feature has none."""

    features: NDArray[np.int64]
    score: Float[np.ndarray, " shown"]


def agreement(
    x: Num[np.ndarray, "n D"], mean: Float[np.ndarray, "n D"], classes: Classes
) -> Float[np.ndarray, " D"]:
    """Of each feature with its reconstruction: the correlation, on the scale that it is drawn on;
    of classes Cohen's kappa, their agreement in excess of chance."""
    found = []
    for j, (column, of_all) in enumerate(zip(x.T, mean.T, strict=True)):
        there, back = column[~np.isnan(column)], of_all[~np.isnan(column)]
        if j in classes:
            found.append(_kappa(there, back, len(classes[j])))
            continue
        scale = scale_for(there, back)
        found.append(_correlation(scale(there), scale(back)))
    return np.array(found)


def gaps(
    x: Num[np.ndarray, "n D"], samples: Num[np.ndarray, "m D"], classes: Classes
) -> Float[np.ndarray, " D"]:
    """How far the quantiles of each feature's samples are from the data's, on the scale that it is
    drawn on: the mean over 25 of them, in standard deviations of the data. Of classes the total
    variation, half the sum of the differences of their shares."""
    found = []
    for j, (there, drawn) in enumerate(zip(x.T, samples.T, strict=True)):
        there, drawn = there[~np.isnan(there)], drawn[np.isfinite(drawn)]
        if j in classes:
            apart = shares(there, len(classes[j])) - shares(drawn, len(classes[j]))
            found.append(0.5 * float(np.abs(apart).sum()))
            continue
        scale = scale_for(there, drawn)
        a, b = scale(there), scale(drawn)
        b = b[np.isfinite(b)]
        spread = float(a.std())
        known = spread > 0 and len(b) > 0
        apart = np.abs(np.percentile(a, _QUANTILES) - np.percentile(b, _QUANTILES)) if known else 0
        found.append(float(np.mean(apart)) / spread if known else math.nan)
    return np.array(found)


def by_rank(score: Float[np.ndarray, " D"], most: int, *, largest_first: bool) -> Shown:
    """All features in their order, or `most` of them from the best score to the worst, evenly
    spaced by rank; those without a score only where there are too few others."""
    if len(score) <= most:
        return Shown(np.arange(len(score)), score)
    order = np.argsort(-score if largest_first else score, kind="stable")  # NaN come last
    known = int(np.isfinite(score).sum())
    among = known if known >= most else len(score)
    chosen = order[spaced(among, most)]
    return Shown(chosen, score[chosen])


def shares(x: Num[np.ndarray, " n"], num_classes: int) -> Float[np.ndarray, " classes"]:
    """How frequent each class is; x are indices, or probabilities of class 1."""
    return np.bincount(np.rint(x).astype(int), minlength=num_classes) / max(1, len(x))


def _kappa(there: NDArray[Any], back: NDArray[Any], num_classes: int) -> float:
    """NaN where there is one class alone."""
    chance = float(shares(there, num_classes) @ shares(back, num_classes))
    agree = float(np.mean(there == np.rint(back))) if len(there) else math.nan
    return (agree - chance) / (1 - chance) if chance < 1 else math.nan


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """NaN where one of them does not vary."""
    if len(a) == 0 or not (np.all(np.isfinite(a)) and np.all(np.isfinite(b))):
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    largest = np.abs(a).max(), np.abs(b).max()
    if min(largest) == 0:
        return math.nan
    a, b = a / largest[0], b / largest[1]  # squares of what is drawn may overflow
    return float(a @ b) / math.sqrt((a @ a) * (b @ b))
