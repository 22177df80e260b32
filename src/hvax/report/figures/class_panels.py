"""Panels of columns of classes: how frequent each class is, and how often it comes back."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hvax.report.features import shares
from hvax.report.figures.style import BLUE, GRAY
from hvax.report.names import short
from hvax.wording import counted

_MOST = 6  # classes that a panel has room for; the rest are counted together
_NAME = 10  # characters of a class


def frequencies(
    axes: Axes, there: Float[np.ndarray, " n"], drawn: Float[np.ndarray, " m"], names: Sequence[str]
) -> None:
    """The share of each class in data (gray) and samples (blue outline), the most common first."""
    data, samples = (shares(x, len(names)) for x in (there, drawn))
    order = np.argsort(-data, kind="stable")
    kept, rest = order[:_MOST], order[_MOST:]
    if len(rest):
        data, samples = (np.append(a[kept], a[rest].sum()) for a in (data, samples))
    else:
        data, samples = data[kept], samples[kept]
    rows = np.arange(len(data))
    axes.barh(rows, data, 0.8, color=GRAY, alpha=0.35)
    axes.barh(rows, samples, 0.8, facecolor="none", edgecolor=BLUE, linewidth=1.3)
    _name_rows(axes, [names[i] for i in kept], len(rest))


def share_right(
    axes: Axes, there: Float[np.ndarray, " n"], right: NDArray[np.bool_], names: Sequence[str]
) -> None:
    """Of the points of each class, the share whose most probable class is theirs."""
    counts = np.bincount(there.astype(int), minlength=len(names))
    kept = np.argsort(-counts, kind="stable")[:_MOST]
    kept = kept[counts[kept] > 0]
    shares = [float(right[there == i].mean()) for i in kept]
    axes.barh(np.arange(len(kept)), np.ones(len(kept)), 0.8, color=GRAY, alpha=0.15)
    axes.barh(np.arange(len(kept)), shares, 0.8, color=BLUE, alpha=0.7)
    _name_rows(axes, [names[i] for i in kept], 0)


def _name_rows(axes: Axes, names: Sequence[str], others: int) -> None:
    labels = [short(name, _NAME) for name in names] + ([counted(others, "other")] if others else [])
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "50%", "100%"))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
