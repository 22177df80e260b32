"""The options of the commands that work on a trained run."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hvax.config.help import (
    OptionalColumns,
    OptionalInt,
    OptionalName,
    OptionalPath,
    optional,
    options,
)


@options
class InsideFile:
    """How to read DATA. By default as the run's own data were read."""

    array: OptionalName = None
    """Name of the array of examples in a .npz file."""
    labels: OptionalName = None
    """Name of the array of labels in a .npz file, or the label column of a .csv file."""
    columns: OptionalColumns = None
    """Columns of a .csv file to use as the run's columns, in the run's order, by name or by
    index from 0."""
    header: Annotated[Literal["auto", "yes", "no"] | None, optional("{auto,yes,no}")] = None
    """Whether the first line of a .csv file holds column names. By default it is detected."""
    unseen: Literal["refuse", "missing"] = "refuse"
    """What to do with classes that were not in the run's own data: refuse the file, or take them
    as missing values."""


@options
class OwnData:
    """Where the data of the run are now, if they were moved."""

    source: Annotated[str | None, optional("FILE")] = None
    """File that the run was trained on. Its contents must not have changed."""
    data_dir: OptionalPath = None
    """Folder that contains mnist/, fashion-mnist/ or binarized_mnist/."""


DataReading = Annotated[InsideFile, tyro.conf.arg(name="data-file")]
MovedData = Annotated[OwnData, tyro.conf.arg(name="moved-data")]
RunPath = Annotated[
    tyro.conf.Positional[Path],
    tyro.conf.arg(
        metavar="RUN", help="Run directory. RUN/baseline is the plain VAE trained with it."
    ),
]
OtherData = Annotated[tyro.conf.Positional[str | None], optional("[DATA]")]
Samples = Annotated[int, tyro.conf.arg(help="Importance samples per data point.")]
Points = Annotated[int, tyro.conf.arg(help="Maximum number of data points, evenly spaced.")]
Seed = Annotated[int, tyro.conf.arg(help="Random seed for the draws.")]


@options
class WorksOnRun:
    """The options of every command that works on a trained run."""

    overwrite: bool = False
    """Replace an existing file."""
    own_data: MovedData = field(default_factory=OwnData)
    strict: bool = False
    """Exit with code 1 after any warning (docs/warnings.md)."""


@options
class TakesTime:
    """The option of every command that may take long."""

    progress: bool = True
    """Show progress bars."""


@options
class ReadsData:
    """The options of every command that may read other data than the run's own."""

    file: DataReading = field(default_factory=InsideFile)


@options
class Evaluate(TakesTime, WorksOnRun, ReadsData):
    """Estimate a run's ELBO and likelihood, with errors and diagnostics."""

    run: RunPath
    source: OtherData = None
    """Data to evaluate on. By default the run's test data."""
    num_samples: Samples = 1000
    points: Points = 1000
    seed: Seed = 0
    per_point: OptionalPath = None
    """File to write the results of each data point to, one row per point. .npy: the columns
    ELBO, log p, var(w/p), ESS, k-hat, lost draws, 1 where draws without the flow were scored,
    rounding error of log w; with --ais also the lower bounds from prior and from encoder (NaN:
    not computed). .npz: the same as named arrays, and the row of each point in its file, from
    0."""
    ais: bool = False
    """Also bound log p(x) by annealed importance sampling (AIS), on these and on simulated
    data. Slow; finished batches are kept in RUN/ais, and the same command continues from
    them."""
    ais_points: int = 100
    """Data points for AIS."""
    ais_temperatures: int = 1000
    """Temperatures for AIS."""
    ais_chains: int = 16
    """Chains per data point for AIS."""
    ais_leapfrog: int = 10
    """Leapfrog steps per HMC transition of AIS."""
    overwrite: bool = False
    """Replace an existing --per-point file."""


@options
class Compare(TakesTime, WorksOnRun, ReadsData):
    """Evaluate runs on the same data and print paired differences."""

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RUN RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Two or more run directories with the same data and split. Differences are to the
    first."""
    baseline: bool = False
    """Also evaluate the plain VAE trained with each run, RUN/baseline."""
    data: Annotated[str | None, optional("DATA")] = None
    """Data to evaluate on. By default the runs' test data."""
    num_samples: Samples = 1000
    points: Points = 1000
    seed: int = 0
    """Random seed for the draws, which all runs share."""
    out: OptionalPath = None
    """.csv file to write, with one row per run."""
    per_point: OptionalPath = None
    """.csv file to write, with one row per run and data point: ELBO, log p, effective sample
    size and k-hat."""
    overwrite: bool = False
    """Replace existing files."""


@options
class Encode(TakesTime, WorksOnRun, ReadsData):
    """Write embeddings: the encoder's mean and sigma, and z after the flow."""

    run: RunPath
    source: OtherData = None
    """Data to encode. By default the run's test data."""
    out: Path = Path("embeddings.npz")
    """.npz file to write, with the arrays mean, sigma, z, row (the row of each example in its
    file, from 0) and, where there are any, labels."""
    weights: OptionalInt = None
    """Draw this many z per example, and write their log importance weights too."""
    seed: Seed = 0


@options
class Reconstruct(TakesTime, WorksOnRun, ReadsData):
    """Write reconstructions E[x | z] of data."""

    run: RunPath
    source: OtherData = None
    """Data to reconstruct. By default the run's test data."""
    out: Path = Path("reconstructions.npy")
    """File to write. .npy: the reconstructions. .npz: also the row of each in its file, from 0.
    .csv: as a table. .png: the first 32 images beside their inputs."""
    seed: Seed = 0


@options
class Impute(TakesTime, WorksOnRun, ReadsData):
    """Fill in the missing values of a file."""

    run: RunPath
    source: OtherData = None
    """Data with missing values (empty cells, NA, ?). By default the file that the run was trained
    on, all of its rows."""
    out: Path = Path("imputed.csv")
    """File to write: the same .csv file with E[x | observed] in its missing cells (for classes
    the most probable one), and every other cell as it was. For .npy data, an .npy file."""
    cells: OptionalPath = None
    """.csv file to write, with one row per missing value: its row (from 0) and column, value,
    standard deviation and interval, and for classes the value's probability."""
    level: float = 0.9
    """Probability that an interval of --cells contains the value."""
    draws: int = 100
    """Draws of each missing value, resampled from ten times as many draws of z."""
    seed: Seed = 0


@options
class Sample(TakesTime, WorksOnRun):
    """Draw new data from a model."""

    run: RunPath
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """Number of samples."""
    out: Path = Path("samples.npy")
    """File to write. .npy: the samples. .csv: the same as a table, with the columns and classes
    of the training data. .png: the first 64 as images."""
    mean: bool = False
    """Write the means E[x | z] instead of draws of x."""
    mixture: OptionalInt = None
    """Draw z from a mixture of this many Gaussians, fitted to embeddings of the training data,
    instead of from the prior. Needs scikit-learn."""
    between: Annotated[tuple[int, int] | None, optional("INDEX INDEX")] = None
    """Interpolate between these two test examples instead, in -n points."""
    path: Literal["spherical", "linear"] = "spherical"
    """Path of the interpolation in latent space."""
    seed: Seed = 0


@options
class WriteReport(WorksOnRun):
    """Write report.html: learning curves, figures and tables of a run in one file."""

    run: RunPath
    out: OptionalPath = None
    """.html file to write. By default report.html in the run directory."""
    labels: OptionalName = None
    """Other labels than those of the training: an array of the run's .npz file, or a column of
    its .csv file."""
    overwrite: bool = False
    """Replace an existing report."""
