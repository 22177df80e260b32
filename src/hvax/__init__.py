"""Hamiltonian variational autoencoders on JAX and Equinox.

The names below are what most programs need; each is explained where it is defined. One level down
stand `hvax.hamiltonian` (integrators, gradients, bridges, schedules), `hvax.models` (heads, terms,
potentials), `hvax.training`, `hvax.evaluation`, `hvax.data` (files and splits) and
`hvax.exceptions` (the warnings). The program `hvax` trains from the command line.
"""

from hvax.batch import Batch
from hvax.data.examples import Examples
from hvax.data.schema import Table
from hvax.evaluation.ais import annealed_importance_sampling
from hvax.evaluation.compare import compare
from hvax.evaluation.evaluate import evaluate
from hvax.evaluation.imputation import Imputed, impute
from hvax.evaluation.interpolate import interpolate
from hvax.evaluation.latent import decode, encode, reconstruct, sample
from hvax.evaluation.result import Evaluation, difference
from hvax.hamiltonian.abstract_flow import AbstractFlow, FlowResult
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.models.convolution import conv
from hvax.models.decoder import Decoder
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.heads import JointGaussian, SplitGaussian
from hvax.models.hvae import HVAE
from hvax.models.latent_model import AbstractLatentModel, Draw
from hvax.models.likelihood import (
    AbstractLikelihood,
    Bernoulli,
    Categorical,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
)
from hvax.models.network import MLP, mlp
from hvax.models.prior import AbstractPrior, StandardNormal
from hvax.models.vae import VAE
from hvax.objectives import elbo, hamiltonian_elbo, importance_weighted_bound, loss
from hvax.parameters import Fixed, Learned, trainable
from hvax.pipeline.parts import load_parts
from hvax.pipeline.train import train
from hvax.report.report import write_report
from hvax.storage.structure import load, save
from hvax.training.fit import fit
from hvax.training.phase import Fit
from hvax.training.prepare import prepare
from hvax.training.state import train_state, train_step

__version__ = "0.1.0"

__all__ = [
    "HVAE",
    "MLP",
    "VAE",
    "AbstractFlow",
    "AbstractLatentModel",
    "AbstractLikelihood",
    "AbstractPrior",
    "Batch",
    "Bernoulli",
    "Categorical",
    "Decoder",
    "DiagonalGaussian",
    "Draw",
    "Evaluation",
    "Examples",
    "Fit",
    "Fixed",
    "FixedGaussian",
    "FlowResult",
    "HamiltonianFlow",
    "Imputed",
    "JointGaussian",
    "Learned",
    "LearnedGaussian",
    "NegativeBinomial",
    "Poisson",
    "SplitGaussian",
    "StandardNormal",
    "Table",
    "annealed_importance_sampling",
    "compare",
    "conv",
    "decode",
    "difference",
    "elbo",
    "encode",
    "evaluate",
    "fit",
    "hamiltonian_elbo",
    "importance_weighted_bound",
    "impute",
    "interpolate",
    "load",
    "load_parts",
    "loss",
    "mlp",
    "prepare",
    "reconstruct",
    "sample",
    "save",
    "train",
    "train_state",
    "train_step",
    "trainable",
    "write_report",
]
