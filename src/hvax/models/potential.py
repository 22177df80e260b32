"""The potential energy of a model at one latent, and its gradient by any method."""

from collections.abc import Callable

from jaxtyping import Array, Float, PyTree

from hvax.checks import check_callable, real_array, vector
from hvax.hamiltonian.gradient import AbstractGradient, Potential, gradient_method, with_aux
from hvax.models.data_point import Data
from hvax.models.latent_model import AbstractLatentModel, check_model

LogLikelihood = Callable[[Array, PyTree], Float[Array, ""]]
LogPrior = Callable[[Array], Float[Array, ""]]


def potential_energy(
    model: AbstractLatentModel,
    x: Data,
    z: Float[Array, " d"],
    *,
    log_likelihood: LogLikelihood | None = None,
    log_prior: LogPrior | None = None,
) -> Float[Array, ""]:
    """The potential energy U(x, z) = -log p(x | z) - log p(z) of one example, in nats.

    `z` has shape (d,). `log_likelihood(x, output)` and `log_prior(z)`, if given, replace the
    model's own. Raises `TypeError` and `ValueError` for arguments of the wrong type or shape.
    """
    return _potential(model, x, log_likelihood, log_prior)(vector(z, "z"))[0]


def potential_gradient(
    model: AbstractLatentModel,
    x: Data,
    z: Float[Array, " d"],
    *,
    method: str | AbstractGradient = "reverse",
    log_likelihood: LogLikelihood | None = None,
    log_prior: LogPrior | None = None,
) -> Float[Array, " d"]:
    """The gradient of `potential_energy` in z, of shape (d,), differentiated through the decoder.

    `method` is "reverse", "forward", "taylor" (these are exact to rounding), "finite", or an
    `AbstractGradient` such as `FiniteDifference("forward")`. Raises as `potential_energy` does.
    """
    potential = _potential(model, x, log_likelihood, log_prior)
    return gradient_method(method).value_and_grad(potential)(vector(z, "z")).gradient


def _potential(
    model: AbstractLatentModel,
    x: Data,
    log_likelihood: LogLikelihood | None,
    log_prior: LogPrior | None,
) -> Potential:
    check_model(model)
    x = real_array(x, "x")
    for name, own in (("log_likelihood", log_likelihood), ("log_prior", log_prior)):
        if own is not None:
            check_callable(own, name)
    log_p_x = model.decoder.log_likelihood if log_likelihood is None else log_likelihood
    log_p_z = model.prior.log_prob if log_prior is None else log_prior
    return with_aux(lambda z: -log_p_x(x, model.decoder(z)) - log_p_z(z))
