"""How good a model is: bounds and likelihoods with their errors; `hvax.evaluate` is the door."""

from hvax.evaluation.ais import AIS as AIS
from hvax.evaluation.compare import Compared as Compared
from hvax.evaluation.latent import Encoding as Encoding
