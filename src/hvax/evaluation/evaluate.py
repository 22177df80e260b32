"""The numbers of a trained model on held-out data, each with its standard error."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray, PyTree
from numpy.typing import NDArray
from scipy.special import logsumexp
from tqdm import tqdm

from hvax.data.examples import as_examples
from hvax.evaluation.draws import draws


@dataclass(frozen=True)
class Evaluation:
    """Means over data points, in nats, with their standard errors over data points."""

    num_points: int
    num_samples: int
    elbo: float
    elbo_se: float
    nll: float
    nll_se: float
    distance: float
    divergent: float
    non_finite: int
