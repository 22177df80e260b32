"""Hamiltonian variational autoencoders on JAX and Equinox.

The names below are the library; each is explained where it is defined. `hvax.data` reads and splits
files, and the program `hvax` trains from the command line.
"""

from hvax.data.examples import Examples as Examples
from hvax.evaluation.ais import AIS as AIS
from hvax.evaluation.ais import annealed_importance_sampling as annealed_importance_sampling
from hvax.evaluation.evaluate import Evaluation as Evaluation
from hvax.evaluation.evaluate import evaluate as evaluate
from hvax.hamiltonian.bridge import AbstractBridge as AbstractBridge
from hvax.hamiltonian.bridge import FixedBridge as FixedBridge
from hvax.hamiltonian.bridge import LearnedBridge as LearnedBridge
from hvax.hamiltonian.flow import HamiltonianFlow as HamiltonianFlow
from hvax.hamiltonian.gradient import AbstractGradient as AbstractGradient
from hvax.hamiltonian.gradient import Finite as Finite
from hvax.hamiltonian.gradient import Forward as Forward
from hvax.hamiltonian.gradient import Reverse as Reverse
from hvax.hamiltonian.integrator import AbstractIntegrator as AbstractIntegrator
from hvax.hamiltonian.integrator import PositionVerlet as PositionVerlet
from hvax.hamiltonian.integrator import VelocityVerlet as VelocityVerlet
from hvax.hamiltonian.leapfrog import PhaseState as PhaseState
from hvax.hamiltonian.leapfrog import leapfrog_step as leapfrog_step
from hvax.hamiltonian.leapfrog import phase_state as phase_state
from hvax.hamiltonian.phase_space import PhaseSpace as PhaseSpace
from hvax.hamiltonian.phase_space import Stages as Stages
from hvax.hamiltonian.step_size import AffineStepSize as AffineStepSize
from hvax.hamiltonian.tempering import AbstractTempering as AbstractTempering
from hvax.hamiltonian.tempering import CustomTempering as CustomTempering
from hvax.hamiltonian.tempering import FreeTempering as FreeTempering
from hvax.hamiltonian.tempering import NullTempering as NullTempering
from hvax.hamiltonian.tempering import QuadraticTempering as QuadraticTempering
from hvax.hamiltonian.tempering import TemperatureTempering as TemperatureTempering
from hvax.hamiltonian.tempering import null_tempering as null_tempering
from hvax.hamiltonian.tempering import quadratic_tempering as quadratic_tempering
from hvax.hamiltonian.tempering import temperature_tempering as temperature_tempering
from hvax.models.convolution import conv as conv
from hvax.models.decoder import Decoder as Decoder
from hvax.models.gaussian import DiagonalGaussian as DiagonalGaussian
from hvax.models.heads import DispersedCounts as DispersedCounts
from hvax.models.heads import JointGaussian as JointGaussian
from hvax.models.heads import SigmaHead as SigmaHead
from hvax.models.heads import SplitGaussian as SplitGaussian
from hvax.models.hvae import HVAE as HVAE
from hvax.models.hvae import HVAEOutputs as HVAEOutputs
from hvax.models.hvae import log_p_bar as log_p_bar
from hvax.models.hvae import log_q_bar as log_q_bar
from hvax.models.hvae import reconstruct as reconstruct
from hvax.models.likelihood import AbstractLikelihood as AbstractLikelihood
from hvax.models.likelihood import Bernoulli as Bernoulli
from hvax.models.likelihood import Categorical as Categorical
from hvax.models.likelihood import CountRate as CountRate
from hvax.models.likelihood import FixedGaussian as FixedGaussian
from hvax.models.likelihood import LearnedGaussian as LearnedGaussian
from hvax.models.likelihood import NegativeBinomial as NegativeBinomial
from hvax.models.likelihood import Poisson as Poisson
from hvax.models.network import MLP as MLP
from hvax.models.network import mlp as mlp
from hvax.models.numerics import softplus as softplus
from hvax.models.posterior import Posterior as Posterior
from hvax.models.potential import potential_energy as potential_energy
from hvax.models.potential import potential_gradient as potential_gradient
from hvax.models.prior import AbstractPrior as AbstractPrior
from hvax.models.prior import StandardNormal as StandardNormal
from hvax.models.standardise import standardised as standardised
from hvax.models.vae import VAE as VAE
from hvax.models.vae import VAEOutputs as VAEOutputs
from hvax.objective import elbo as elbo
from hvax.objective import hamiltonian_elbo as hamiltonian_elbo
from hvax.objective import importance_weighted_bound as importance_weighted_bound
from hvax.objective import loss as loss
from hvax.objective import vae_loss as vae_loss
from hvax.parameter import Fixed as Fixed
from hvax.parameter import Learned as Learned
from hvax.parameter import trainable as trainable
from hvax.structure import load as load
from hvax.structure import save as save
from hvax.training.fit import Event as Event
from hvax.training.fit import Fit as Fit
from hvax.training.fit import fit as fit
from hvax.training.optimiser import clip_outliers as clip_outliers
from hvax.training.optimiser import faster_flow as faster_flow
from hvax.training.state import TrainState as TrainState
from hvax.training.state import train_state as train_state
from hvax.training.state import train_step as train_step

__version__ = "0.1.0"
