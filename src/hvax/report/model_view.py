"""All that a page asks of a model, in one place: what it is made of, and what it does.

Pictures of draws come from `hvax.evaluation.trajectories`, numbers from `hvax.evaluation.evaluate`.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.data.examples import Examples, with_origin
from hvax.data.masks import with_mask
from hvax.devices import model_rows_of
from hvax.hamiltonian.abstract_flow import AbstractFlow
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.integrator import PositionVerlet
from hvax.hamiltonian.momentum import GaussianMomentum
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.hvae import HVAE, has_flow
from hvax.models.latent_model import AbstractLatentModel, Draw, posterior_of
from hvax.models.likelihood import AbstractLikelihood, Bernoulli, Categorical
from hvax.models.origin import origin_of
from hvax.models.prior import StandardNormal
from hvax.models.standardize import StandardizedLikelihood
from hvax.models.vae import VAE
from hvax.parameters import trainable
from hvax.wording import counted

Model = AbstractLatentModel

# By class; a user's own is called by its name.
_LIKELIHOODS = {
    "FixedGaussian": "Gaussian",
    "LearnedGaussian": "Gaussian",
    "NegativeBinomial": "negative binomial",
    "Categorical": "categorical",
    "MixedLikelihood": "mixed",
}


def likelihood_of(model: Model) -> AbstractLikelihood:
    """p(x | z)."""
    return model.decoder.likelihood


def num_classes(model: Model) -> int | None:
    """How many classes an x has that is of classes, which are shown by their probabilities; None
    for other data."""
    likelihood = likelihood_of(model)
    return likelihood.num_classes if isinstance(likelihood, Categorical) else None


def makes_curves(model: Model) -> bool:
    """Whether a series of x is a curve, as bits and classes are not."""
    return not isinstance(likelihood_of(model), Bernoulli | Categorical)


def has_standard_normal_prior(model: Model) -> bool:
    """Whether p(z) = N(0, I)."""
    return isinstance(model.prior, StandardNormal)


def points_of(model: Model, test: Examples, rows: Any) -> Batch:
    """Some test points on the device, as the model takes them, with the mask of missing values."""
    return model_rows_of(with_origin(with_mask(Batch(test)), origin_of(model)), rows)


def one_of(points: Batch, i: int) -> Batch:
    """Point i of some."""
    return points.map(lambda part: part[i])


def moves_draws(model: Model, test: Examples) -> bool:
    """Whether something moves the encoder's draws for such examples; nothing is computed."""
    if isinstance(model, HVAE):
        return has_flow(model)

    def draw(model: Model, row: Batch) -> Draw:
        posterior = posterior_of(model, row)
        return model.draw(posterior, row.scored, key=jax.random.key(0), **row.given())

    one = one_of(points_of(model, test, slice(0, 1)), 0)
    return eqx.filter_eval_shape(draw, model, one).trajectory is not None


def has_gaussian_posterior(model: Model, row: Batch) -> bool:
    """Whether q(z_0 | x) is a diagonal Gaussian for such a point; nothing is computed."""
    found = eqx.filter_eval_shape(lambda model: posterior_of(model, row), model)
    return isinstance(found, DiagonalGaussian)


def name_of(model: Model) -> str:
    """What a model is called where its user gave it no name: with a flow of the presets its name,
    as the program calls it; else its class."""
    flow = model.flow if isinstance(model, HVAE) else None
    if not isinstance(flow, HamiltonianFlow) or flow.bridge is None:
        return type(model).__name__
    if isinstance(flow.integrator, PositionVerlet):
        return "DAIS"
    eta = flow.momentum.eta if isinstance(flow.momentum, GaussianMomentum) else None
    return "ULA" if eta is not None and not is_learned(eta) and eta.value == 0 else "UHA"


def kind_of(model: Model) -> str:
    """What a model is, in words."""
    if isinstance(model, HVAE):
        return f"Hamiltonian VAE, {transitions(model.flow)}"
    return "Variational autoencoder" if isinstance(model, VAE) else name_of(model)


def likelihood_words(model: Model) -> str:
    """What its likelihood is, in words."""
    likelihood, units = likelihood_of(model), ""
    if isinstance(likelihood, StandardizedLikelihood):
        likelihood, units = likelihood.inner, " of standardized features"
    name = type(likelihood).__name__
    return f"{_LIKELIHOODS.get(name, name)} likelihood{units}"


def transitions(flow: AbstractFlow) -> str:
    """How many steps of what kind a flow has, in words; a flow of the user's own has its name."""
    if not isinstance(flow, HamiltonianFlow):
        return f"a flow by {type(flow).__name__}"
    if flow.num_steps == 0:
        return "a flow of no steps"
    plain = flow.bridge is None and not flow.momentum.refreshes
    kind = "tempered " if plain and _is_tempered(flow) else ""
    by = " by position Verlet" if isinstance(flow.integrator, PositionVerlet) else ""
    if plain and flow.leapfrog_steps == 1:
        return f"{counted(flow.num_steps, f'{kind}leapfrog step')}{by}"
    many = "" if flow.leapfrog_steps == 1 else f" of {flow.leapfrog_steps} leapfrog steps"
    annealed = kind if flow.bridge is None else "annealed "
    return f"{counted(flow.num_steps, f'{annealed}transition')}{many}{by}"


class FlowView(NamedTuple):
    """What a flow does, in words, and its numbers that have pictures; None where it has none."""

    words: str
    step_sizes: NDArray[np.floating] | None = None
    step_sizes_learned: bool = False
    beta: Float[np.ndarray, " stages"] | None = None  # None without tempering
    beta_learned: bool = False
    bridge: Float[np.ndarray, " K"] | None = None
    bridge_learned: bool = False
    midway: bool = False  # whether energies are known midway of the steps only


def flow_view(model: Model) -> FlowView:
    """What moves the draws of a model that moves them."""
    if not isinstance(model, HVAE):
        return FlowView(f"{name_of(model)} moves the encoder’s draws itself.")
    flow, own_potential = model.flow, model.potential_for_flow is not None
    words = _flow_words(flow, own_potential=own_potential)
    if not isinstance(flow, HamiltonianFlow):
        return FlowView(words)
    beta = np.asarray(flow.tempering.beta(flow.num_steps))
    return FlowView(
        words=words,
        step_sizes=np.asarray(flow.step_sizes),
        step_sizes_learned=is_learned((flow.step_size, flow.mass)),
        beta=beta if _is_tempered(flow) else None,
        beta_learned=is_learned(flow.tempering),
        bridge=None if flow.bridge is None else np.asarray(flow.bridge.weights(flow.num_steps)),
        bridge_learned=is_learned(flow.bridge),
        midway=not flow.integrator.last_gradient_at_end,
    )


def is_learned(part: Any) -> bool:
    """Whether training moves a part of a model."""
    return any(jax.tree.leaves(trainable(part)))


def _flow_words(flow: AbstractFlow, *, own_potential: bool) -> str:
    """What a flow does, and the single numbers of it, in sentences."""
    first = transitions(flow)
    words = f"{first[0].upper()}{first[1:]} on "
    words += "a potential of its own" if own_potential else "−log p(x | z) − log p(z)"
    if not isinstance(flow, HamiltonianFlow):
        return f"{words}."
    words += "." if flow.bridge is None else ", by way of densities between it and the encoder’s."
    momentum = flow.momentum
    if not isinstance(momentum, GaussianMomentum):
        words += f" Its momenta are those of {type(momentum).__name__}."
    elif momentum.eta is not None:
        kept, how = float(momentum.eta.value), _how(momentum.eta)
        words += f" A transition keeps {kept:.3f} of the momentum (η, {how})."
    steps = np.asarray(flow.step_sizes)
    if steps.size == 1:
        unit = " standard deviations of the encoder" if flow.units == "posterior" else ""
        how = _how((flow.step_size, flow.mass))
        words += f" The step size is {float(steps.reshape(())):.4f}{unit}, {how}."
    return words


def _is_tempered(flow: HamiltonianFlow) -> bool:
    """Whether a stage of a flow has, or may learn, an inverse temperature other than 1."""
    return is_learned(flow.tempering) or bool(np.any(flow.tempering.beta(flow.num_steps) != 1))


def _how(part: Any) -> str:
    return "learned" if is_learned(part) else "fixed"
