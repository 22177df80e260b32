"""A source, read, split and prepared: what a model is trained, validated and tested on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.checked_data import describe_missing
from hvax.checks import check_one_of, check_path, count
from hvax.data.binarize import binarize_once
from hvax.data.digest import digest_of_numbers
from hvax.data.examples import Examples
from hvax.data.header import Header
from hvax.data.masks import with_mask
from hvax.data.schema import Table
from hvax.data.source import SOURCES, Source
from hvax.data.split import FRACTIONS, Split
from hvax.data.table import Missing
from hvax.models.likelihood import (
    AbstractLikelihood,
    Bernoulli,
    FixedGaussian,
    LearnedGaussian,
)
from hvax.models.mixed import MixedLikelihood
from hvax.pipeline.likelihood import LikelihoodName, likelihood_named, scale_of
from hvax.pipeline.origin import origin_for, taken_off
from hvax.pipeline.reading import Reading, read_alike, read_split, rows_of
from hvax.pipeline.tables import is_mixed, mixed_likelihood, transforms_of
from hvax.training.marginals import Marginals, has_holes, marginals, smallest, spaced_rows
from hvax.training.units import TransformChoice, Transforms, real_units
from hvax.wording import named, words

Binarize = Literal["none", "static", "dynamic"]


class Parts(NamedTuple):
    """A source's examples as a model uses them, disjoint."""

    name: str
    """The source's name or path; "data" for an array."""
    train: Examples
    validation: Examples
    test: Examples
    test_labels: NDArray[Any] | None
    transform: Callable[..., Batch] | None
    """Of training batches, afresh at each step; see `fit`."""
    likelihood: AbstractLikelihood
    scale: float
    """Of stored numbers, which other data of the same kind have too."""
    feature_names: tuple[str, ...] | None
    """Of a table with a header."""
    independent: Marginals
    """The model of independent features of the training data."""
    fractions: tuple[float, ...]
    """Those of the split."""
    table: Table | None
    """The schema of a table with columns of several kinds, or of a DataFrame."""
    standardized: bool
    """Whether networks are to begin in the units of the data."""
    notes: tuple[str, ...]
    """What was left out, and what looks odd."""
    header: bool | None
    """Whether the first line of a .csv file names the columns."""
    test_rows: NDArray[np.int64]
    """Where the test examples stand in the file, from 0."""
    digest: str
    """Of the numbers of all parts."""


class Whole(NamedTuple):
    """All examples of a source, prepared as a run's test part is."""

    examples: Examples
    labels: NDArray[Any] | None
    rows: NDArray[np.int64]  # where they stand in the file, from 0
    notes: tuple[str, ...]  # what was left out, and what was guessed


def load_parts(
    data: Any,
    *,
    data_dir: str | Path = "data",
    array: str | None = None,
    labels: Any = None,
    columns: Sequence[str] | None = None,
    header: Header = "auto",
    missing: Missing = "keep",
    kinds: Mapping[str, str] | None = None,
    table: Table | None = None,
    fractions: Sequence[float] = FRACTIONS,
    split_seed: int = 0,
    likelihood: LikelihoodName | None = None,
    sigma: float = 1.0,
    num_classes: int | None = None,
    binarize: Binarize | None = None,
    standardize: bool = True,
    transform: TransformChoice = "auto",
) -> Parts:
    """Read, split and prepare data, as `hvax train` does.

    **Arguments:**

    - `data`: digits, mnist, fashion-mnist or binarized-mnist; the path of a .npy, .npz or .csv
      file; or examples in memory, (n, *x_shape), as an array, a DataFrame or a
      `hvax.data.Source`.
    - `data_dir`, `array`, `labels`, `columns`, `header`: what is read in a file, see
      `hvax.data.load_source`; `labels` of examples in memory are an array (n,).
    - `missing`: "keep" models the observed values of every row; "drop" leaves out rows of a .csv
      file that lack any.
    - `kinds`: how columns of a table are modeled, by name, where that is not to be inferred: real,
      positive, binary, category, count, ignored or label; see `hvax.Table`. `table`: a schema, from
      `hvax.Table.infer`.
    - `fractions`, `split_seed`: train, validation and test, see `hvax.data.split`.
    - `likelihood`: bernoulli, gaussian (learned sigma), fixed-gaussian, categorical, poisson or
      negative-binomial; by default what suits the training rows, see `default_likelihood`.
    - `sigma`: of fixed-gaussian, in standard deviations of each feature (in the data's units
      without `standardize`). `num_classes`: of categorical.
    - `binarize`: gray levels in [0, 1] to bits, for training data once ("static"), afresh at each
      step ("dynamic", the default for gray levels under a Bernoulli) or not at all ("none").
      Validation and test data are binarized once.
    - `standardize`: whether networks are to begin in the units of the data. The likelihood stays
      that of the raw data.
    - `transform`: log or asinh of real columns with heavy tails; "auto" where it fits the training
      rows better.

    Raises as `hvax.data.load_source` and `hvax.data.split` do, and `ValueError` where a part is
    empty or the numbers do not suit the likelihood.
    """
    words_of = (("header", header, Header), ("missing", missing, Missing),
                ("transform", transform, TransformChoice))  # fmt: skip
    for name, value, choices in words_of:
        check_one_of(value, named(name), get_args(choices))
    check_path(data_dir, "data_dir")
    seed = count(split_seed, named("split_seed"), least=0)
    mixed = None if likelihood is None else likelihood == "mixed"
    reading = Reading(data, data_dir, array, labels, columns, header, missing, kinds, table, mixed)
    source, indices, notes = read_split(reading, fractions=fractions, seed=seed)
    for part in ("validation", "test"):
        if len(getattr(indices, part)) == 0:
            raise ValueError(
                f"fractions must leave {part} examples, got none of {source.name}. Give that part "
                "a fraction > 0."
            )
    return prepared_parts(
        source,
        indices,
        likelihood=likelihood,
        sigma=sigma,
        num_classes=num_classes,
        binarize=binarize,
        standardize=standardize,
        transform=transform,
        fractions=fractions,
        notes=notes,
    )


def prepared_parts(
    source: Source,
    indices: Split,
    *,
    likelihood: LikelihoodName | None = None,
    sigma: float = 1.0,
    num_classes: int | None = None,
    binarize: Binarize | None = None,
    standardize: bool = True,
    transform: TransformChoice = "auto",
    unbounded: bool = False,
    fractions: Sequence[float] = FRACTIONS,
    notes: tuple[str, ...] = (),
) -> Parts:
    """The parts of a source that has been read, prepared for training; see `load_parts`.

    `unbounded` is for models of data yet unseen: a real column is then never taken by its logarithm
    for being positive so far. Validation and test parts may be empty.
    """
    if source.table is not None and (likelihood == "mixed" or is_mixed(source.table)):
        chosen: AbstractLikelihood = mixed_likelihood(source.table)
        transforms: Transforms = transforms_of(source.table, transform)
    else:
        transforms = transform
        chosen = likelihood_named(
            likelihood, source, indices.train, sigma=sigma, num_classes=num_classes
        )
    scale = scale_of(source, chosen)
    train, validation, test = (
        Examples(source.x, index, scale, names=source.feature_names, holes=source.holes)
        for index in (indices.train, indices.validation, indices.test)
    )
    how = _binarize(binarize, source, chosen)
    if how != "none" and source.holes:
        raise ValueError(
            f"{source.name} must have no missing values (NaN) to be binarized. Use "
            + words("binarize='none'.", "--binarize none.")
        )
    if how != "none":
        validation = _binarized(validation, "validation")
        test = _binarized(test, "test")
    if how == "static":
        train = _binarized(train, "train")
    if standardize and isinstance(chosen, LearnedGaussian | FixedGaussian | MixedLikelihood):
        origin = origin_for(chosen, spaced_rows(train))
        train, validation, test = (
            replace(part, origin=origin) for part in (train, validation, test)
        )
        notes += taken_off(train)
    if (missing := describe_missing(with_mask(Batch(train)))) is not None:
        notes += (f"training data: {missing}",)
    rows = spaced_rows(train)
    chosen.check(rows, *((~np.isnan(rows),) if has_holes(rows) else ()))
    if isinstance(chosen, FixedGaussian) and standardize:
        chosen = FixedGaussian(sigma * real_units(rows, "none").scale)
    least = smallest(train, validation, test)
    if unbounded and least is not None:
        asked = np.broadcast_to(np.array(transforms), least.shape)
        least = np.where(asked == "log", least, np.minimum(least, 0.0))
    independent = marginals(chosen, rows, transform=transforms, least=least)
    assert independent is not None
    return Parts(
        name=source.name,
        train=train,
        validation=validation,
        test=test,
        test_labels=None if source.labels is None else source.labels[indices.test],
        transform=fresh_bits if how == "dynamic" else None,
        likelihood=chosen,
        scale=scale,
        feature_names=source.feature_names,
        independent=independent,
        fractions=tuple(map(float, fractions)),
        table=source.table,
        standardized=standardize,
        notes=notes,
        header=source.header,
        test_rows=rows_of(source)[indices.test],
        digest=digest_of_numbers(source.x),
    )


def load_whole(
    reading: Reading,
    likelihood: AbstractLikelihood,
    scale: float,
    *,
    binarize: Binarize | None = None,
    own_columns: bool = True,
) -> Whole:
    """All examples of a source, prepared as a run's test part is.

    `likelihood` and `scale` are the run's. With `own_columns` the columns of `reading` are those of
    the run; else they were chosen for this file. Gray levels in a file that go no further than the
    run's white, its `scale`, count as the run's.
    """
    source = read_alike(reading) if own_columns else reading.load()
    if source.name not in SOURCES and np.nanmax(source.x) <= scale < source.scale:
        source = replace(source, scale=scale)
    examples = Examples(
        source.x,
        None,
        scale_of(source, likelihood),
        names=source.feature_names,
        holes=source.holes,
    )
    if _binarize(binarize, source, likelihood) != "none":
        examples = _binarized(examples, "whole")
    return Whole(examples, source.labels, rows_of(source), source.notes)


def fresh_bits(batch: Batch, *, key: PRNGKeyArray) -> Batch:
    """A batch with bits in the place of gray levels x in [0, 1]: 1 with probability x."""
    return batch._replace(x=jax.random.bernoulli(key, batch.x).astype(jnp.float32))


def _binarize(how: Binarize | None, source: Source, likelihood: AbstractLikelihood) -> Binarize:
    gray = source.scale != 1 and isinstance(likelihood, Bernoulli)
    chosen: Binarize = ("dynamic" if gray else "none") if how is None else how
    check_one_of(chosen, "`binarize`", get_args(Binarize))
    if chosen != "none" and not isinstance(likelihood, Bernoulli):
        option = words(f"binarize={chosen!r}", f"--binarize {chosen}")
        raise ValueError(f"{option} is for the bernoulli likelihood.")
    return chosen


def _binarized(examples: Examples, part: str) -> Examples:
    """`binarize_once` of gray levels in [0, 1]; it would take other numbers too."""
    for start in range(0, len(examples), 4096):
        Bernoulli().check(examples[start : start + 4096])
    return binarize_once(examples, part)
