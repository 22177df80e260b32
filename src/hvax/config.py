"""The options of a run, as frozen dataclasses: the program's flags and config.json alike.

The help keeps the line breaks of what stands below an option, so they are where 80 columns break
it.
"""

import math
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from hvax.hamiltonian.presets import MAX_STEP, BridgeName, Preset, ScheduleName

LikelihoodName = Literal[
    "bernoulli",
    "gaussian",
    "fixed-gaussian",
    "categorical",
    "poisson",
    "negative-binomial",
]

T = TypeVar("T")
Unset = Annotated[T | None, tyro.conf.arg(help_behavior_hint="")]
"""An option whose help says itself what happens where it is not given."""


@dataclass(frozen=True)
class DataOptions:
    """How the examples are found, split and prepared."""

    data_dir: Path = Path("data")
    """Folder of mnist/, fashion-mnist/ and binarized_mnist/."""
    array: Unset[str] = None
    """Name of the examples' array in a .npz file."""
    labels: Unset[str] = None
    """Name of the labels in a .npz file, or their column in a .csv file."""
    columns: Unset[tuple[str, ...]] = None
    """Columns of a .csv file to take, by name or index
    from 0; by default all numbers that vary."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first line of a .csv file names the
    columns; by default it does where it holds words, or
    numbers that look like an axis."""
    binarize: Unset[Literal["none", "static", "dynamic"]] = None
    """Gray levels to bits, for training data: once, or afresh at each step (default for images)."""
    standardize: bool = True
    """Networks work in the data's units: they see (x -
    mean) / sd of real numbers and log(1 + x) of
    counts, and start at the data's marginals. The
    likelihood stays that of the raw data."""
    transform: Literal["auto", "none", "log", "asinh"] = "auto"
    """Heavy tails of real numbers: model log x or asinh
    of a column. By default where it fits the
    training data better."""
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Train, validation and test fractions of a source that does not fix its parts."""
    split_seed: int = 0
    """Which examples train, validate and test."""


@dataclass(frozen=True)
class ModelOptions:
    """What is learned."""

    model: Literal["vae", "hvae"] = "hvae"
    """What to train."""
    network: Literal["mlp", "conv"] = "mlp"
    """Dense layers, or the paper's convolutional net for 28 x 28 images."""
    hidden: Unset[tuple[int, ...]] = None
    """Sizes of the hidden layers of the mlp encoder;
    the decoder mirrors them. By default 400, or 100
    where there are fewer than 1,000 examples for it."""
    latent_size: Unset[int] = None
    """Dimension of z; by default 20, or half the
    features of an example where those are fewer."""
    likelihood: Unset[LikelihoodName] = None
    """p(x | z); by default bernoulli for images and for
    0 and 1; gaussian (learned sigma) for other
    numbers, but for whole ones negative-binomial if
    it fits better."""
    sigma: float = 1.0
    """Standard deviation of fixed-gaussian, in those of
    each feature; with --no-standardize in the data's
    units."""
    num_classes: Unset[int] = None
    """Classes of categorical; by default one more than the largest in the data."""


@dataclass(frozen=True)
class FlowOptions:
    """The Hamiltonian flow of an hvae."""

    flow: Literal["hvae", "uha", "dais", "ula"] = "dais"
    """Annealed from the encoder to the posterior, or hvae, Caterini et al.'s (docs/flows.md)."""
    num_steps: int = Preset.num_steps
    """Transitions K, each of --leapfrog-steps steps."""
    leapfrog_steps: int = 1
    """Leapfrog steps of a transition."""
    step_size: Unset[float] = None
    """Leapfrog step size; its first value when learned.
    By default 0.4; for hvae min(0.4, 1.6 / total
    leapfrog steps), because without momentum
    refreshment a longer trajectory turns back."""
    units: Literal["posterior", "latent"] = Preset.units
    """What a step size of 1 is: the encoder's sigma of each example and dimension, or 1 in z."""
    step_size_shape: Literal["shared", "per-dimension", "per-step", "per-layer"] = "shared"
    """One step size, or one per latent dimension, per step, or per step and dimension."""
    learn_step_size: bool = True
    """Train the step size."""
    max_step: float = MAX_STEP
    """Upper bound of a learned step size."""
    schedule: Unset[ScheduleName] = None
    """Tempering: quadratic in 1/sqrt(beta) (default of
    hvae), or in temperature; one free scaling a
    step; none (default of the others)."""
    beta0: float = Preset.beta0
    """Inverse temperature at the start of the flow, in (0, 1]; its first value when learned."""
    learn_beta0: bool = True
    """Train beta0, or the scalings of free."""
    bridge: Unset[BridgeName] = None
    """Weights of the densities on the way: trained
    (default of uha, dais, ula), k / (K + 1), or none
    (default of hvae)."""
    eta: Unset[float] = None
    """Share of the momentum that a transition keeps, in
    [0, 1]; its first value when learned. By default
    1 for hvae, 0.9 for uha and dais, 0 for ula."""
    learn_eta: bool = True
    """Train eta, where it is neither 0 nor 1."""
    gradient: Literal["reverse", "forward", "taylor", "finite"] = "reverse"
    """How the potential's gradient is taken."""
    remat: bool = False
    """Keep little of each step for training, and compute it again: memory flat in K."""


@dataclass(frozen=True)
class TrainOptions:
    """How it is trained, and scored at the end."""

    epochs: Unset[int] = None
    """Passes over the training data, at most; by
    default about 20,000 updates, 1,000 epochs at
    most."""
    batch_size: Unset[int] = None
    """Examples per step; by default 100, fewer where
    there are fewer than 1,000 examples."""
    train_samples: int = 1
    """Draws per example in training: with more than one it is the importance weighted bound's."""
    estimator: Literal["standard", "dreg"] = "standard"
    """Gradient of the bound: doubly reparameterized has
    less noise in the encoder of an IWAE (--model vae
    with several --train-samples), more in that of a
    flow."""
    warm_start: Unset[Path] = None
    """Start from the networks of the run in this
    directory.
    Example: hvax train mnist --warm-start runs/a"""
    flow_from_epoch: Unset[int] = None
    """Train the plain VAE until then, at a quarter of
    the cost, and the flow with it from there: by
    default for about a quarter of the time, at most
    a quarter of all epochs; throughout after a warm
    start."""
    optimizer: Literal["adam", "adamw", "adamax", "rmsprop", "sgd"] = "adam"
    """One of optax's."""
    learning_rate: float = 1e-3
    """Step size of the optimizer."""
    flow_rate: float = 10.0
    """Learning rate of the flow's own numbers, over that of the networks."""
    clip: float = 4.0
    """Clip the gradient norm at this multiple of its running mean; 0 disables clipping."""
    patience: Unset[int] = None
    """Stop after this many epochs without a better
    validation ELBO; 0 never does. By default those
    of about 1,000 updates, 10 at least."""
    save_seconds: float = 60.0
    """Seconds between checkpoints; there is one at the end too."""
    max_skipped: int = 10
    """End the run after so many updates in a row with a loss or gradient that is not finite."""
    seed: int = 0
    """Random seed for initialization, batch order and noise."""
    x64: bool = False
    """Compute in float64."""
    baseline: bool = True
    """Beside an hvae, train the plain VAE with the same networks, data and epochs."""
    num_samples: int = 500
    """Importance samples per data point of the final NLL."""
    test_points: int = 1000
    """Test points in the final table, at most; evenly spaced."""


@dataclass(frozen=True)
class Train:
    """Train a model and print its numbers on test data."""

    source: tyro.conf.Positional[str]
    """digits, mnist, fashion-mnist, binarized-mnist, or a .npy, .npz or .csv file."""
    run_dir: Unset[Path] = None
    """Where the run is written; by default runs/SOURCE-MODEL-DATE-TIME."""
    overwrite: bool = False
    """Replace a run that is there.
    Example: hvax train digits --overwrite --run-dir a"""
    resume: bool = False
    """Go on with the run in --run-dir, with the options
    it has where none are given.
    Example: hvax train digits --run-dir a --resume"""
    strict: bool = False
    """Exit with 1 where a warning was given (docs/warnings.md)."""
    progress: bool = True
    """Show progress bars."""
    report: bool = True
    """Write report.html at the end: curves, pictures and tables in one file."""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    flow: FlowOptions = field(default_factory=FlowOptions)
    train: TrainOptions = field(default_factory=TrainOptions)


@dataclass(frozen=True)
class InsideFile:
    """What to read in a file; without them what the run read in its own, where the file has it."""

    array: Unset[str] = None
    """Name of the examples' array in a .npz file."""
    labels: Unset[str] = None
    """Name of the labels in a .npz file, or their column in
    a .csv file."""
    columns: Unset[tuple[str, ...]] = None
    """Columns of a .csv file that stand for the run's, in
    the run's order, by name or index from 0."""
    header: Unset[Literal["auto", "yes", "no"]] = None
    """Whether the first line of a .csv file names the
    columns; by default as it looks."""


@dataclass(frozen=True)
class OwnData:
    """Where the run's own data are, if they have moved."""

    source: Unset[str] = None
    """The run's own file; it must hold what it held in
    training."""
    data_dir: Unset[Path] = None
    """Folder of the run's own mnist/, fashion-mnist/ or
    binarized_mnist/."""


@dataclass(frozen=True)
class Evaluate:
    """Score a run: bounds, likelihood, and whether to trust them."""

    run: tyro.conf.Positional[Path]
    """A run directory; RUN/baseline is the plain VAE beside it."""
    source: tyro.conf.Positional[str | None] = None
    """Other data than the run's own test part."""
    num_samples: int = 1000
    """Importance samples per data point."""
    points: int = 1000
    """Data points, at most; evenly spaced."""
    seed: int = 0
    """Random seed of the draws."""
    per_point: Unset[Path] = None
    """A .npy file of a row for each point: ELBO, log p,
    var(w/p), ESS, k-hat, lost draws, 1 where plain draws
    were scored, rounding of log w; with --ais the lower
    bounds from prior and posterior (NaN: not taken). Or an
    .npz of these by name, and the row of each point in its
    file, from 0."""
    ais: bool = False
    """Also bound log p(x) by annealed importance sampling,
    on these and on simulated data. Finished batches are
    kept in RUN/ais: the same command goes on from them."""
    ais_points: int = 100
    """Data points for AIS."""
    ais_temperatures: int = 1000
    """Temperatures for AIS."""
    ais_chains: int = 16
    """Chains per data point for AIS."""
    ais_leapfrog: int = 10
    """Leapfrog steps of each HMC transition of AIS."""
    file: InsideFile = field(default_factory=InsideFile)
    overwrite: bool = False
    """Replace a --per-point file that is there."""
    own_data: OwnData = field(default_factory=OwnData)
    strict: bool = False
    """Exit with 1 where a warning was given (docs/warnings.md)."""
    progress: bool = True
    """Show progress bars."""


@dataclass(frozen=True)
class Compare:
    """Score runs on the same data points, and their differences point by point."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Two run directories or more, of the same data and
    split; the others are compared with the first."""
    baseline: bool = False
    """Also the plain VAE beside each run, RUN/baseline."""
    data: Unset[str] = None
    """Other data than the runs' own test part."""
    num_samples: int = 1000
    """Importance samples per data point."""
    points: int = 1000
    """Data points, at most; evenly spaced."""
    seed: int = 0
    """Random seed of the draws, which are the same for all."""
    out: Unset[Path] = None
    """A .csv file of a row for each run."""
    per_point: Unset[Path] = None
    """A .csv file of a row for each run and point: ELBO,
    log p, effective samples, k-hat."""
    file: InsideFile = field(default_factory=InsideFile)
    overwrite: bool = False
    """Replace a file that is there."""
    own_data: OwnData = field(default_factory=OwnData)
    strict: bool = False
    """Exit with 1 where a warning was given (docs/warnings.md)."""
    progress: bool = True
    """Show progress bars."""


@dataclass(frozen=True)
class Encode:
    """Write embeddings: encoder mean and sigma, and z after the flow."""

    run: tyro.conf.Positional[Path]
    """A run directory; RUN/baseline is the plain VAE beside it."""
    source: tyro.conf.Positional[str | None] = None
    """Data to encode; by default the run's own test part."""
    out: Path = Path("embeddings.npz")
    """The .npz file to write: mean, sigma, z, row (the number
    of each in its file, from 0), and labels where there are
    some."""
    weights: Unset[int] = None
    """Draw so many z for each point and write their log-weights too."""
    seed: int = 0
    """Random seed of the draws."""
    file: InsideFile = field(default_factory=InsideFile)
    overwrite: bool = False
    """Replace a file that is there."""
    own_data: OwnData = field(default_factory=OwnData)
    strict: bool = False
    """Exit with 1 where a warning was given (docs/warnings.md)."""
    progress: bool = True
    """Show progress bars."""


@dataclass(frozen=True)
class Reconstruct:
    """Write reconstructions E[x | z] of data."""

    run: tyro.conf.Positional[Path]
    """A run directory; RUN/baseline is the plain VAE beside it."""
    source: tyro.conf.Positional[str | None] = None
    """Data to reconstruct; by default the run's own test part."""
    out: Path = Path("reconstructions.npy")
    """The .npy file to write; or an .npz with the row of each
    in its file, from 0; or a .png of the first 32 beside
    their inputs."""
    seed: int = 0
    """Random seed of the draws."""
    file: InsideFile = field(default_factory=InsideFile)
    overwrite: bool = False
    """Replace a file that is there."""
    own_data: OwnData = field(default_factory=OwnData)
    strict: bool = False
    """Exit with 1 where a warning was given (docs/warnings.md)."""
    progress: bool = True
    """Show progress bars."""


@dataclass(frozen=True)
class Sample:
    """Draw new data from a model."""

    run: tyro.conf.Positional[Path]
    """A run directory; RUN/baseline is the plain VAE beside it."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """How many."""
    out: Path = Path("samples.npy")
    """The .npy file to write, or a .png of the first 64 images."""
    mean: bool = False
    """Write E[x | z] in place of draws of x."""
    mixture: Unset[int] = None
    """Draw z from a mixture of so many Gaussians fitted to the training embeddings."""
    between: Unset[tuple[int, int]] = None
    """Instead: n points on the way between two test examples, by their index."""
    path: Literal["spherical", "linear"] = "spherical"
    """The way between them."""
    seed: int = 0
    """Random seed of the draws."""
    overwrite: bool = False
    """Replace a file that is there."""
    own_data: OwnData = field(default_factory=OwnData)
    strict: bool = False
    """Exit with 1 where a warning was given (docs/warnings.md)."""
    progress: bool = True
    """Show progress bars."""


@dataclass(frozen=True)
class WriteReport:
    """Write report.html: curves, pictures and tables of a run in one file."""

    run: tyro.conf.Positional[Path]
    """A run directory; RUN/baseline is the plain VAE beside it."""
    out: Unset[Path] = None
    """The .html file to write; by default report.html in the run directory."""
    labels: Unset[str] = None
    """Other labels than those of the training: an array of
    the run's .npz file, or a column of its .csv file."""
    overwrite: bool = False
    """Replace a report that is there."""
    own_data: OwnData = field(default_factory=OwnData)
    strict: bool = False
    """Exit with 1 where a warning was given (docs/warnings.md)."""


def check_numbers(options: Any) -> None:
    """Refuses numbers that are not finite, which config.json could not hold, with `ValueError`."""
    for option in fields(options):
        value = getattr(options, option.name)
        if is_dataclass(value):
            check_numbers(value)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                flag = f"--{option.name.replace('_', '-')}"
                raise ValueError(f"{flag} must be finite, got {number}. Give another number.")
