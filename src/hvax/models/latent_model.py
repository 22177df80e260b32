"""The contract of a latent variable model: what objectives, `fit`, `evaluate`, `encode` and the
report see. `VAE` and `HVAE` are its first members; a model of the user's own is as good as they."""

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from hvax.checks import check_key, real_array
from hvax.hamiltonian.gradient import Potential
from hvax.models.decoder import Decoder
from hvax.models.likelihood import Data, ShapeMismatch
from hvax.models.posterior import Posterior
from hvax.models.prior import AbstractPrior


class Draw(NamedTuple):
    """One draw of a model's latent vector for one example, and what it scores; densities in nats.

    A batch of draws has the same fields with a leading axis.
    """

    posterior: Posterior  # q(z_0 | x), which z_init was drawn from
    output: PyTree  # the decoder's output at z: the likelihood's parameters
    z_init: Float[Array, " d"]  # z_0 ~ q(z_0 | x)
    z: Float[Array, " d"]  # where the flow ended; z_init without one
    log_weight: Float[Array, ""]  # log w, with E[exp(log w)] = p(target | condition)
    log_likelihood: Float[Array, ""]  # log p(target | z)
    log_prior: Float[Array, ""]  # log p(z)
    log_posterior: Float[Array, ""]  # log q(z_0 | x)
    trajectory: PyTree = None  # what the flow did; None without one


class LogJoint(NamedTuple):
    """One evaluation of the model at z: the decoder's output and log p(x, z) in its two parts."""

    output: PyTree
    log_likelihood: Float[Array, ""]  # log p(x | z), nats
    log_prior: Float[Array, ""]  # log p(z), nats


class AbstractLatentModel(eqx.Module):
    """A model p(z) p(x | z) with a way to draw z given x.

    A member has a `prior`, a `decoder` and two methods. Methods take one example; what calls them
    makes batches of them with `jax.vmap`.

    `condition` is what the model may depend on and never scores; a member that takes none may leave
    the argument out, and is called without it where there is none.
    """

    prior: eqx.AbstractVar[AbstractPrior]
    decoder: eqx.AbstractVar[Decoder]

    @abstractmethod
    def posterior(self, x: Data, condition: Any = None) -> Posterior:
        """q(z_0 | x, condition): `mean`, `sigma`, `log_prob` and `sample_and_log_prob`."""

    @abstractmethod
    def draw(
        self, posterior: Posterior, target: Data, condition: Any = None, *, key: PRNGKeyArray
    ) -> Draw:
        """One draw from a posterior at hand, scored at `target`; the encoder does not run.

        The contract: E[exp(draw.log_weight)] = p(target | condition), whatever the posterior.
        """

    def __call__(
        self,
        x: Data,
        target: Data | None = None,
        condition: Any = None,
        *,
        key: PRNGKeyArray,
        latent: bool = False,
    ) -> Any:
        """The decoder's output at one draw of z; with `latent=True` the whole `Draw`.

        The encoder sees `x`; the flow and the likelihood see `target`, which is x where it is not
        given and the shapes agree (else `ValueError`).
        """
        check_key(key)
        x = real_array(x, "x")
        target = None if target is None else real_array(target, "target")
        given = {} if condition is None else {"condition": condition}
        posterior = self.posterior(x, **given)
        try:
            draw = self.draw(posterior, x if target is None else target, **given, key=key)
        except ShapeMismatch as error:
            if target is not None:
                raise ValueError(f"target does not suit the decoder: {error}") from error
            raise ValueError(
                f"{error} A draw is scored at `target`, which is x where it is not given: give "
                "it, or decode without a score, model.decoder(model.posterior(x).mean)."
            ) from error
        return draw if latent else draw.output

    def log_weight(
        self, x: Data, target: Data | None = None, condition: Any = None, *, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """One draw of log w, in nats, with E[exp(log w)] = p(target | condition)."""
        return self(x, target, condition, key=key, latent=True).log_weight

    def log_joint(self, x: Data, z: Float[Array, " d"], condition: Any = None) -> LogJoint:
        """log p(x | z) and log p(z) in nats, with the decoder's output."""
        output = self.decoder(z, condition)
        return LogJoint(output, self.decoder.log_likelihood(x, output), self.prior.log_prob(z))

    def potential(self, x: Data, condition: Any = None) -> Potential:
        """U(z) = -log p(x | z) - log p(z), in nats; the `LogJoint` at z comes with it."""

        def potential(z: Float[Array, " d"]) -> tuple[Float[Array, ""], LogJoint]:
            joint = self.log_joint(x, z, condition)
            return -joint.log_likelihood - joint.log_prior, joint

        return potential


def batch_of_posteriors(model: AbstractLatentModel, x: Array, given: dict[str, Any]) -> Any:
    """The posteriors of a batch; `given` is its condition and mask, where there are any.

    What a posterior holds that is no array, such as the functions of a user's own, is that of all.
    """
    return eqx.filter_vmap(lambda x, given: model.posterior(x, **given))(x, given)


def map_examples(function: Any, posterior: PyTree, *rest: PyTree) -> Any:
    """`function(posterior, *rest)` of each example of a batch: `jax.vmap` over all arrays, and what
    is no array as it is."""
    arrays, static = eqx.partition((posterior, rest), eqx.is_array)

    def one(arrays: PyTree) -> PyTree:
        posterior, rest = eqx.combine(arrays, static)
        return function(posterior, *rest)

    return eqx.filter_vmap(one, in_axes=(eqx.if_array(0),))(arrays)
