"""The options of `hvax train`."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hvax.config.help import (
    OptionalColumns,
    OptionalFloat,
    OptionalInt,
    OptionalName,
    OptionalPath,
    optional,
    options,
)
from hvax.hamiltonian.presets import MAX_STEP, BridgeName, Preset, ScheduleName
from hvax.pipeline.likelihood import LikelihoodName


@options
class DataOptions:
    """How the data are read, split and preprocessed."""

    data_dir: Path = Path("data")
    """Folder that contains mnist/, fashion-mnist/ or binarized_mnist/."""
    array: OptionalName = None
    """Name of the array of examples in a .npz file."""
    labels: OptionalName = None
    """Name of the array of labels in a .npz file, or the label column of a .csv file. Labels
    color the plots of the report; the model never sees them."""
    columns: OptionalColumns = None
    """Columns of a .csv file to model, by name or by index from 0. By default all columns
    except constants, row numbers, dates and text of nearly as many values as rows."""
    kinds: Annotated[tuple[str, ...] | None, optional("COLUMN=KIND [COLUMN=KIND ...]")] = None
    """What columns of a table hold, where it is not to be inferred: real, positive, binary,
    category, count, ignored or label. For example: --kinds grade=category age=count."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first line of a .csv file holds column names. auto: yes if it has text, or
    numbers that look like an axis (such as wavelengths)."""
    missing: Literal["keep", "drop"] = "keep"
    """Missing values (NaN; empty cells, NA, ? in a .csv file). keep: model the observed values
    of every row. drop: leave out the rows of a .csv file that lack any."""
    binarize: Annotated[
        Literal["none", "static", "dynamic"] | None, optional("{none,static,dynamic}")
    ] = None
    """Binarize gray levels by random draws. static: training data once; dynamic: training data
    again at every step (default for images). Validation and test data are binarized once."""
    standardize: bool = True
    """Standardize real features, and log(1 + x) of counts, for the networks, and start the
    decoder at each feature's own distribution. Bounds and samples stay in the units of the raw
    data."""
    transform: Literal["auto", "none", "log", "asinh"] = "auto"
    """Transform real columns that have heavy tails before they are standardized. auto: for each
    column the one that fits its training data best."""
    fractions: Annotated[
        tuple[float, float, float], tyro.conf.arg(metavar="TRAIN VALIDATION TEST")
    ] = (0.8, 0.1, 0.1)
    """Fractions of the data for training, validation and test. For sources without a split of
    their own."""
    split_seed: int = 0
    """Random seed for the split into training, validation and test data."""


@options
class ModelOptions:
    """The networks and the likelihood."""

    model: Literal["vae", "hvae"] = "hvae"
    """vae: a plain VAE. hvae: a VAE with the flow of --flow."""
    network: Literal["mlp", "conv"] = "mlp"
    """mlp: fully connected layers. conv: the convolutional network of Caterini et al., for 28 x
    28 images."""
    hidden: Annotated[tuple[int, ...] | None, optional("SIZE [SIZE ...]")] = None
    """Sizes of the hidden layers of the mlp encoder; the decoder mirrors them. By default one
    layer of 400, or of 100 below 1,000 training examples."""
    latent_size: OptionalInt = None
    """Dimension of the latent variable z. By default 20, or half the number of features if that
    is less."""
    likelihood: Annotated[LikelihoodName | None, optional("NAME")] = None
    """Distribution p(x | z): bernoulli, gaussian (learned sigma), fixed-gaussian, categorical,
    poisson, negative-binomial, or mixed (one for each column of a table, by its kind). By
    default bernoulli for images and for data of 0 and 1, mixed for tables whose columns are of
    several kinds, gaussian for other numbers, or negative-binomial for integers if it fits
    better."""
    sigma: float = 1.0
    """Standard deviation of --likelihood fixed-gaussian, as a multiple of each feature's
    standard deviation; with --no-standardize in the units of the data."""
    num_classes: OptionalInt = None
    """Number of classes of --likelihood categorical. By default one more than the largest value
    in the data."""


@options
class FlowOptions:
    """The flow of --model hvae, which moves the encoder's draw toward the posterior."""

    flow: Literal["hvae", "uha", "dais", "ula"] = "dais"
    """dais, uha and ula anneal from the encoder's distribution to the posterior; hvae is the
    Hamiltonian flow of Caterini et al. docs/flows.md compares them."""
    num_steps: int = Preset.num_steps
    """Number of transitions K of the flow."""
    leapfrog_steps: int = 1
    """Leapfrog steps per transition."""
    step_size: OptionalFloat = None
    """Leapfrog step size; the initial value if it is learned. By default 0.4; for --flow hvae
    min(0.4, 1.6 / total leapfrog steps), because without momentum refreshment a longer
    trajectory turns back."""
    units: Literal["posterior", "latent"] = Preset.units
    """Units of the step size. posterior: the encoder's standard deviation, per example and
    dimension. latent: those of z."""
    step_size_shape: Literal["shared", "per-dimension", "per-step", "per-layer"] = "shared"
    """Number of step sizes. shared: one. per-dimension: one per latent dimension. per-step: one
    per transition. per-layer: one per transition and dimension."""
    learn_step_size: bool = True
    """Learn the step size."""
    max_step: float = MAX_STEP
    """Upper bound of a learned step size."""
    schedule: Annotated[ScheduleName | None, optional("{quadratic,temperature,free,none}")] = None
    """Tempering schedule of the inverse temperature beta, which rises to 1. quadratic: 1 /
    sqrt(beta) is quadratic in the step (default for hvae). temperature: 1 / beta is. free: one
    learned scaling per step. none: no tempering (default for the other flows)."""
    beta0: float = Preset.beta0
    """Inverse temperature at the start of the flow, in (0, 1]; the initial value if it is
    learned."""
    learn_beta0: bool = True
    """Learn beta0, or the scalings of --schedule free."""
    bridge: Annotated[BridgeName | None, optional("{learned,even,none}")] = None
    """Weights of the densities between encoder and posterior. learned: default for dais, uha
    and ula. even: k / (K + 1) at transition k. none: the posterior throughout (default for
    hvae)."""
    eta: OptionalFloat = None
    """Fraction of the momentum that each transition keeps, in [0, 1]; the initial value if it
    is learned. By default 1 for hvae, 0.9 for uha and dais, 0 for ula."""
    learn_eta: bool = True
    """Learn eta, unless it is 0 or 1."""
    gradient: Literal["reverse", "forward", "taylor", "finite"] = "reverse"
    """How the flow differentiates the log-density. reverse: reverse-mode autodiff. forward or
    taylor: forward mode. finite: central finite differences, which are inexact."""
    remat: bool = False
    """Recompute the flow's steps in the backward pass instead of storing them: slower, but memory
    hardly grows with K."""


@options
class TrainOptions:
    """How the model is trained, and evaluated at the end."""

    epochs: OptionalInt = None
    """Maximum number of passes over the training data. By default as many as give about 20,000
    updates, fewer on very small data, and at most 1,000."""
    batch_size: OptionalInt = None
    """Examples per update. By default 100; a tenth of the training data below 1,000 examples,
    and at least 8; 500 from a million examples on."""
    train_samples: int = 1
    """Draws per example in training. With more than 1, the importance-weighted bound is trained
    instead of the ELBO."""
    estimator: Literal["standard", "dreg"] = "standard"
    """Estimator of the gradient. dreg: doubly reparameterized, with less noise than the
    standard one for a plain VAE with several --train-samples (an IWAE), but more for the
    encoder of a flow."""
    warm_start: OptionalPath = None
    """Start from the trained networks of the run in this directory.

    Example: hvax train mnist --warm-start runs/a"""
    flow_from_epoch: OptionalInt = None
    """First epoch with the flow. Before it the plain VAE is trained, at about a quarter of the
    cost per epoch. By default the flow gets about a quarter of the time, and at most a quarter
    of the epochs; with --warm-start it is on from epoch 1."""
    optimizer: Literal["adam", "adamw", "adamax", "rmsprop", "sgd"] = "adam"
    """Optimizer, from optax."""
    learning_rate: float = 1e-3
    """Learning rate of the networks."""
    flow_rate: float = 10.0
    """Learning rate of the flow's parameters, as a multiple of --learning-rate."""
    clip: float = 4.0
    """Clip the gradient norm at this multiple of its running mean; 0 disables clipping."""
    patience: OptionalInt = None
    """Stop after this many epochs without a better validation ELBO; 0 disables early stopping.
    By default the epochs of about 1,000 updates, at least 10."""
    save_seconds: float = 60.0
    """Seconds between checkpoints. The end of training is saved too."""
    max_skipped: int = 10
    """Stop after this many consecutive skipped updates. An update is skipped if its loss or
    gradient is not finite."""
    seed: int = 0
    """Random seed for initialization, batch order and noise."""
    x64: bool = False
    """Compute in float64."""
    baseline: bool = True
    """With --model hvae, also train the plain VAE with the same networks, data and epochs, and
    compare."""
    num_samples: int = 500
    """Importance samples per test point for the final negative log-likelihood (NLL)."""
    test_points: int = 1000
    """Maximum number of test points to evaluate at the end, evenly spaced."""


@options
class Train:
    """Train a model and evaluate it on test data."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """digits, mnist, fashion-mnist, binarized-mnist, or a .npy, .npz, .csv or
    .parquet file."""
    run_dir: OptionalPath = None
    """Directory to write the run to. By default runs/SOURCE-MODEL-DATE-TIME."""
    overwrite: bool = False
    """Replace an existing run.

    Example: hvax train digits --overwrite --run-dir a"""
    resume: bool = False
    """Continue the run in --run-dir, with its own options unless others are given.

    Example: hvax train digits --run-dir a --resume"""
    strict: bool = False
    """Exit with code 1 after any warning (docs/warnings.md)."""
    progress: bool = True
    """Show progress bars."""
    report: bool = True
    """Write report.html at the end: learning curves, figures and tables in one file."""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    flow: FlowOptions = field(default_factory=FlowOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
