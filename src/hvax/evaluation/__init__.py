"""Evaluation: bounds and likelihoods with their errors, diagnostics, and the latent space."""

from hvax.evaluation.ais import AIS as AIS
from hvax.evaluation.compare import Compared as Compared
from hvax.evaluation.latent import Encoding as Encoding
