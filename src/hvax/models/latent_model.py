"""The contract of a latent variable model.

Objectives, `fit`, `evaluate`, `encode` and the report use nothing else of a model. `VAE` and `HVAE`
implement it; so can a user's own model (docs/your-own.md).
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.batch import Batch
from hvax.checks import check_key, check_kind, real_array
from hvax.hamiltonian.gradient import Potential
from hvax.models.data_point import Data, Mask, ShapeMismatch
from hvax.models.decoder import Decoder
from hvax.models.inputs import takes
from hvax.models.posterior import Posterior
from hvax.models.prior import AbstractPrior
from hvax.wording import kind_of


class Draw(NamedTuple):
    """One draw of the latent vector for one example, with its densities in nats.

    A batch of draws has the same fields with a leading axis.
    """

    posterior: Posterior  # q(z_0 | x), the density that z_init was drawn from
    output: PyTree  # the decoder's output at z: the likelihood's parameters
    z_init: Float[Array, " d"]  # z_0 ~ q(z_0 | x)
    z: Float[Array, " d"]  # the end of the flow; z_init without a flow
    log_weight: Float[Array, ""]  # log w, with E[exp(log w)] = p(target | condition)
    log_likelihood: Float[Array, ""]  # log p(target | z)
    log_prior: Float[Array, ""]  # log p(z)
    log_posterior: Float[Array, ""]  # log q(z_0 | x)
    trajectory: PyTree = None  # a record of the flow's path; None without a flow


class LogJoint(NamedTuple):
    """One evaluation of the model at z: the decoder's output and the two parts of log p(x, z)."""

    output: PyTree
    log_likelihood: Float[Array, ""]  # log p(x | z), nats
    log_prior: Float[Array, ""]  # log p(z), nats


class AbstractLatentModel(eqx.Module):
    """A model p(z) p(x | z) that can draw z given x.

    A subclass has a `prior`, a `decoder` and the methods `posterior` and `draw`. All methods take
    one example; callers use `jax.vmap` for batches.

    `condition` is an input that the model is conditioned on and does not score. `mask`, of x's
    shape, is True where x and target are observed: hidden entries must not enter any number. A
    model without conditions, or for data without missing values, may leave the argument out: it is
    only passed if a batch has one.
    """

    prior: eqx.AbstractVar[AbstractPrior]
    decoder: eqx.AbstractVar[Decoder]

    @abstractmethod
    def posterior(self, x: Data, condition: Any = None, mask: Mask = None) -> Posterior:
        """The approximate posterior q(z_0 | x, condition) of one example; see `Posterior`."""

    @abstractmethod
    def draw(
        self,
        posterior: Posterior,
        target: Data,
        condition: Any = None,
        mask: Mask = None,
        *,
        key: PRNGKeyArray,
    ) -> Draw:
        """One draw from a given posterior, scored at `target`, without running the encoder.

        Every implementation must satisfy E[exp(draw.log_weight)] = p(target | condition), whatever
        the posterior; with a mask, p of the observed entries of target.
        """

    def check_condition(self) -> None:
        """Raise `ValueError` if parts of the model take no condition; by default nothing."""

    def __call__(
        self,
        x: Data,
        target: Data | None = None,
        condition: Any = None,
        mask: Mask = None,
        *,
        key: PRNGKeyArray,
        latent: bool = False,
    ) -> Any:
        """The decoder's output at one draw of z for one example; with `latent=True` the `Draw`.

        The encoder takes `x`; the flow and the likelihood take `target`, by default x, where the
        mask is True. Raises `ValueError` for an example whose shape does not fit the networks.
        """
        check_key(key)
        x = real_array(x, "x")
        target = None if target is None else real_array(target, "target")
        given = Batch(x, target, condition, mask).given()
        posterior = self.posterior(x, **given)
        try:
            draw = self.draw(posterior, x if target is None else target, **given, key=key)
        except ShapeMismatch as error:
            if target is not None:
                raise ValueError(f"target does not suit the decoder: {error}") from error
            raise ValueError(
                f"{error} A draw is scored at `target`, by default x. Give a target of the "
                "decoder's shape, or decode without scoring: "
                "model.decoder(model.posterior(x).mean)."
            ) from error
        return draw if latent else draw.output

    def log_weight(
        self,
        x: Data,
        target: Data | None = None,
        condition: Any = None,
        mask: Mask = None,
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """One draw of log w, in nats, with E[exp(log w)] = p(target | condition)."""
        return self(x, target, condition, mask, key=key, latent=True).log_weight

    def log_joint(
        self, x: Data, z: Float[Array, " d"], condition: Any = None, mask: Mask = None
    ) -> LogJoint:
        """log p(x | z) and log p(z) in nats at one z, with the decoder's output."""
        output = self.decoder(z, condition)
        log_likelihood = self.decoder.log_likelihood(x, output, mask)
        return LogJoint(output, log_likelihood, self.prior.log_prob(z))

    def potential(self, x: Data, condition: Any = None, mask: Mask = None) -> Potential:
        """The function z -> (U, `LogJoint`), with U(z) = -log p(x | z) - log p(z) in nats."""

        def potential(z: Float[Array, " d"]) -> tuple[Float[Array, ""], LogJoint]:
            joint = self.log_joint(x, z, condition, mask)
            return -joint.log_likelihood - joint.log_prior, joint

        return potential


def check_model(model: Any, name: str = "model") -> None:
    """Raise `TypeError` unless `model` is a model."""
    if isinstance(model, tuple) and len(model) == 2 and isinstance(model[1], Decoder):
        raise TypeError(
            f"{name} must be an AbstractLatentModel, got a pair (encoder, decoder). Make a model "
            "of it: hvax.VAE(*pair), such as hvax.VAE(*hvax.mlp(...))."
        )
    check_kind(model, name, AbstractLatentModel)


def check_takes(model: AbstractLatentModel, given: Iterable[str]) -> None:
    """Raise `ValueError` for a condition or a mask where the model's methods take none, and for a
    condition where networks of hvax's models take none."""
    for name in given:
        for method in (model.posterior, model.draw):
            if not takes(method, name):
                kind = kind_of(model)
                raise ValueError(
                    f"the batch must have no {name} for {kind}, whose methods "
                    f"take none. Leave {name} out, or take a model with posterior(x, {name}=...) "
                    f"and draw(posterior, target, {name}=..., key=...)."
                )
    if "condition" in given:
        model.check_condition()
    likelihood = model.decoder.likelihood
    methods = likelihood.log_prob, likelihood.check
    if "mask" in given and not all(takes(method, "mask") for method in methods):
        raise ValueError(
            f"the data must have no missing values for {kind_of(likelihood)}, whose "
            "log_prob and check take no mask. Fill them in, or give both methods a parameter "
            "`mask`: booleans of x's shape, True where x is observed and counts."
        )


def posterior_of(model: AbstractLatentModel, row: Batch) -> Posterior:
    """q(z_0 | x) of one example (a `Batch` without the batch axis)."""
    return model.posterior(row.x, **row.given())


def potential_of(model: AbstractLatentModel, row: Batch) -> Potential:
    """The function z -> (U, aux) of one example (a `Batch` without the batch axis)."""
    return model.potential(row.scored, **row.given())


def batch_of_posteriors(model: AbstractLatentModel, x: Array, given: dict[str, Any]) -> Any:
    """The posteriors of a batch x; `given` holds its condition and mask, if any.

    Parts of a posterior that are not arrays, such as functions, are shared by all examples. Raises
    what `check_takes` raises.
    """
    check_takes(model, given)
    return eqx.filter_vmap(lambda x, given: model.posterior(x, **given))(x, given)


def map_examples(function: Any, posterior: PyTree, *rest: PyTree) -> Any:
    """`jax.vmap` of `function(posterior, *rest)` over the first axis of every array.

    Leaves that are not arrays, such as functions in a user's posterior, are passed unmapped.
    """
    arrays, static = eqx.partition((posterior, rest), eqx.is_array)

    def one(arrays: PyTree) -> PyTree:
        posterior, rest = eqx.combine(arrays, static)
        return function(posterior, *rest)

    return eqx.filter_vmap(one, in_axes=(eqx.if_array(0),))(arrays)
