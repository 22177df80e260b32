"""Decoders with a kink in their activations, and a potential without it.

Where a decoder has relu, grad U jumps at every hyperplane on which a unit switches, and with it the
end of a trajectory. log w is then no continuous function of the parameters, and its derivative,
which is blind to jumps, is not in expectation that of the bound.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from hvax.door import real_number
from hvax.hamiltonian.gradient import Potential
from hvax.models.likelihood import Data
from hvax.models.vae import VAE

_KINKED = (
    jax.nn.relu,
    jax.nn.relu6,
    jax.nn.leaky_relu,
    jax.nn.selu,
    jax.nn.hard_tanh,
    jax.nn.hard_sigmoid,
    jax.nn.hard_silu,
)


class Smoothed(eqx.Module):
    """What a flow follows where the decoder has relu: U with softplus(s a) / s for each relu(a).

        model = HVAE(vae, flow, potential=Smoothed())

    The weights score the decoder as it is, so E[exp(log w)] = p(x) whatever s, the `sharpness`; and
    as the end of a trajectory is smooth in all parameters, the gradient of log w has the bound's as
    its mean. At s = 10, the default, the flow is as good as one on U itself; a larger s has more
    noise in the gradient. It takes one more value of the decoder than U itself.

    It finds `jax.nn.relu` where a module holds it as its activation, such as `hvax.mlp` and
    `equinox.nn.MLP` do; `ValueError` where there is none, or an activation with another kink.
    """

    sharpness: float = eqx.field(static=True)

    def __init__(self, sharpness: float | int = 10.0):
        if not 0 < real_number(sharpness, "sharpness") < float("inf"):
            raise ValueError(f"sharpness must be finite and > 0, got {sharpness!r}.")
        self.sharpness = float(sharpness)

    def __call__(self, vae: VAE, x: Data) -> Potential:
        kinks = kinks_of(vae.decoder)
        if kinks != {"relu"}:
            raise ValueError(
                "Smoothed is for decoders with jax.nn.relu and no other kink; this one has "
                f"{', '.join(sorted(kinks)) or 'none'}."
            )
        smooth = partial(_softplus, sharpness=self.sharpness)
        decoder = _mapped(vae.decoder, lambda f: smooth if f is jax.nn.relu else f)
        return VAE(vae.encoder, decoder, vae.prior).potential(x)


def kinks_of(module: Any) -> set[str]:
    """The names of the activations in a module whose derivative jumps."""
    found: set[str] = set()

    def look(function: Callable) -> Callable:
        found.update(known.__name__ for known in _KINKED if function is known)
        return function

    _mapped(module, look)
    return found


def _softplus(a: Float[Array, "..."], *, sharpness: float) -> Float[Array, "..."]:
    return jax.nn.softplus(sharpness * a) / sharpness


def _mapped(node: Any, change: Callable[[Callable], Callable]) -> Any:
    """A module with every function in it changed, in whatever field it stands."""
    if isinstance(node, eqx.Module):
        module: Any = object.__new__(type(node))  # as a pytree is unflattened, without __init__
        for field in dataclasses.fields(node):
            object.__setattr__(module, field.name, _mapped(getattr(node, field.name), change))
        return module
    if isinstance(node, tuple | list):
        items = [_mapped(item, change) for item in node]
        return getattr(node, "_make", type(node))(items)  # a named tuple, or another
    if isinstance(node, dict):
        return {key: _mapped(value, change) for key, value in node.items()}
    return change(node) if callable(node) and not isinstance(node, jax.Array) else node
