"""The likelihood of a table's row: a family for each kind of column.

A row x (d,) holds numbers: of a real column the number itself, of a binary one 0 or 1, of a
category the index of its class, of a count a whole number. Its log-density is the sum of the
families' over their columns, each with its constants.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.checks import count
from hvax.models.data_point import Data, Mask, check_range, check_shape
from hvax.models.likelihood import AbstractLikelihood, Categorical

_NO_CLASS = -1e30  # logit of a class that a column does not have; its probability is 0


class CategoryColumns(AbstractLikelihood):
    """Columns of classes: x (k,) has class indices, 0 ... num_classes[j] - 1 in column j.

    The decoder's output is one array of logits (k, C), with C the largest number of classes; a
    column ignores the logits beyond its own.
    """

    num_classes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, num_classes: Sequence[int]):
        self.num_classes = tuple(count(number, "num_classes") for number in num_classes)

    def logits(self, output: Float[Array, "k c"]) -> Float[Array, "k c"]:
        """The logits of the classes that there are; others have probability 0."""
        exists = np.arange(max(self.num_classes)) < np.array(self.num_classes)[:, None]
        check_shape(output, exists.shape, name="the decoder's logits")
        return jnp.where(exists, output, jnp.asarray(_NO_CLASS, output.dtype))

    def probabilities(self, output: Float[Array, "k c"]) -> Float[Array, "k c"]:
        """p(class | z) of each column."""
        return jax.nn.softmax(self.logits(output))

    def log_prob(self, output: Float[Array, "k c"], x: Data, mask: Mask = None) -> Float[Array, ""]:
        classes = jnp.rint(x).astype(jnp.int32)
        family = Categorical(max(self.num_classes), one_hot=False)
        return family.log_prob(self.logits(output), classes, mask)

    def mean(self, output: Float[Array, "k c"]) -> Float[Array, " k"]:
        """The most probable class of each column: classes have no mean."""
        return jnp.argmax(self.logits(output), axis=-1).astype(output.dtype)

    def sample(self, output: Float[Array, "k c"], *, key: PRNGKeyArray) -> Float[Array, " k"]:
        return jax.random.categorical(key, self.logits(output)).astype(output.dtype)

    def check(self, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        valid = (x == np.rint(x)) & (x >= 0) & (x < np.array(self.num_classes))
        check_range(x, "a category", "a class index", valid, mask=mask)


class Group(eqx.Module):
    """The columns of a row that one family models."""

    likelihood: AbstractLikelihood
    columns: tuple[int, ...] = eqx.field(static=True)

    def of(self, x: Any) -> Any:
        """The group's columns of rows x (..., d); None of None."""
        return None if x is None else x[..., np.array(self.columns)]


class MixedLikelihood(AbstractLikelihood):
    """A product of families over groups of the d columns of a row.

        log p(x | z) = sum over groups g of log p_g(x_g | z)

    The decoder's output is a tuple with the parameters of each group. `groups` must share out the
    columns 0 ... d - 1; `ValueError` if they do not.
    """

    groups: tuple[Group, ...]

    def __init__(self, groups: Sequence[Group]):
        self.groups = tuple(groups)
        named = sorted(column for group in groups for column in group.columns)
        if named != list(range(len(named))) or not named:
            raise ValueError(f"groups must have each column once, got the columns {named}.")

    @property
    def num_columns(self) -> int:
        """d, the number of columns."""
        return sum(len(group.columns) for group in self.groups)

    def log_prob(self, output: tuple[PyTree, ...], x: Data, mask: Mask = None) -> Float[Array, ""]:
        check_shape(x, (self.num_columns,))
        terms = []
        for group, parameters in zip(self.groups, output, strict=True):
            given = () if mask is None else (group.of(mask),)
            terms.append(group.likelihood.log_prob(parameters, group.of(x), *given))
        return sum(terms[1:], terms[0])

    def mean(self, output: tuple[PyTree, ...]) -> Float[Array, " d"]:
        """E[x | z] of each column; of a category the most probable class."""
        return self.row([g.likelihood.mean(o) for g, o in zip(self.groups, output, strict=True)])

    def sample(self, output: tuple[PyTree, ...], *, key: PRNGKeyArray) -> Float[Array, " d"]:
        keys = jax.random.split(key, len(self.groups))
        parts = zip(self.groups, output, keys, strict=True)
        return self.row([group.likelihood.sample(o, key=key) for group, o, key in parts])

    def check(self, x: np.ndarray, mask: np.ndarray | None = None) -> None:
        if x.shape[1:] != (self.num_columns,):
            raise ValueError(
                f"data of a table must be rows of {self.num_columns} columns, got shape {x.shape}."
            )
        for group in self.groups:
            try:
                group.likelihood.check(group.of(x), *(() if mask is None else (group.of(mask),)))
            except ValueError as error:
                raise ValueError(f"in columns {_listed(group.columns)}: {error}") from error

    def row(self, parts: Sequence[Array]) -> Float[Array, " d"]:
        """Columns of each group put together in the order of the row."""
        order = np.argsort([column for group in self.groups for column in group.columns])
        return jnp.concatenate(parts)[order]

    def mean_of_mixture(
        self, output: tuple[PyTree, ...], weight: Float[Array, " samples"]
    ) -> Float[Array, " d"]:
        """`mean` under a mixture: outputs with an axis of samples first, and their weights."""
        parts = zip(self.groups, output, strict=True)
        return self.row([mean_of_mixture(group.likelihood, o, weight) for group, o in parts])


def mean_of_mixture(
    likelihood: AbstractLikelihood, output: PyTree, weight: Float[Array, " samples"]
) -> Float[Array, "..."]:
    """E[x] under a mixture of p(x | z_s): outputs with an axis of samples first, and weights.

    Weights sum to 1. For columns of classes it is the most probable class.
    """
    if isinstance(likelihood, MixedLikelihood):
        return likelihood.mean_of_mixture(output, weight)
    if isinstance(likelihood, CategoryColumns):
        p = _averaged(jax.vmap(likelihood.probabilities)(output), weight)
        return jnp.argmax(p, axis=-1).astype(p.dtype)
    return _averaged(jax.vmap(likelihood.mean)(output), weight)


def _averaged(values: Float[Array, "samples ..."], weight: Float[Array, " samples"]) -> Array:
    # 0 times an infinite value of a draw without weight is NaN: such draws are left out.
    shaped = weight.reshape(-1, *(1,) * (values.ndim - 1))
    return jnp.sum(jnp.where(shaped > 0, shaped * values, 0.0), axis=0)


def _listed(columns: Sequence[int]) -> str:
    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    return ", ".join(map(str, columns[:5])) + more
