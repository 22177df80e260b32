"""Decoders with a kink in their activations, and a potential without it.

Where a decoder has relu, grad U jumps at every hyperplane on which a unit switches, and with it the
end of a trajectory. log w is then no continuous function of the parameters, and its derivative,
which is blind to jumps, is not in expectation that of the bound.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.extend.core as jex
from jaxtyping import Array, Float, PyTree

from hvax.checks import real_number
from hvax.hamiltonian.gradient import Potential
from hvax.models.likelihood import Data
from hvax.models.vae import VAE

# As jax.nn calls them; each is a compiled function of that name in what calls it.
_KINKED = {"relu", "relu6", "leaky_relu", "selu", "hard_tanh", "hard_sigmoid", "hard_silu"}


class SmoothedPotential(eqx.Module):
    """What a flow follows where the decoder has relu: U with softplus(s a) / s for each relu(a).

        model = HVAE(vae, flow, potential=SmoothedPotential())

    The weights score the decoder as it is, so E[exp(log w)] = p(x) whatever s, the `sharpness`; and
    as the end of a trajectory is smooth in all parameters, the gradient of log w has the bound's as
    its mean. At s = 10, the default, the flow is as good as one on U itself; a larger s has more
    noise in the gradient. It takes one more value of the decoder than U itself.

    It replaces every `jax.nn.relu` on the way from z to U, whoever calls it. `ValueError` where
    there is none, or another of jax.nn's activations with a kink.
    """

    sharpness: float = eqx.field(static=True)

    def __init__(self, sharpness: float | int = 10.0):
        if not 0 < real_number(sharpness, "sharpness") < float("inf"):
            raise ValueError(f"sharpness must be finite and > 0, got {sharpness!r}.")
        self.sharpness = float(sharpness)

    def __call__(self, vae: VAE, x: Data, condition: Any = None) -> Potential:
        own = vae.potential(x, condition)

        def potential(z: Float[Array, " d"]) -> PyTree:
            traced, shape = jax.make_jaxpr(own, return_shape=True)(z)
            kinks = _kinks_of(traced.jaxpr)
            if kinks != {"relu"}:
                raise ValueError(
                    "SmoothedPotential is for decoders with jax.nn.relu and no other kink; this "
                    f"one has {', '.join(sorted(kinks)) or 'none'}."
                )
            values = _evaluated(traced, [z], self._softplus)
            return jax.tree.unflatten(jax.tree.structure(shape), values)

        return potential

    def _softplus(self, a: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.nn.softplus(self.sharpness * a) / self.sharpness


def kinks_of(function: Callable, *arguments: Any) -> set[str]:
    """The names of the activations in a function of arrays whose derivative jumps."""
    return _kinks_of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _kinks_of(jaxpr: jex.Jaxpr) -> set[str]:
    found: set[str] = set()
    for equation in jaxpr.eqns:
        if (name := _name(equation)) in _KINKED:
            found.add(name)
        else:
            found |= set().union(*map(_kinks_of, _inside(equation)))
    return found


def _name(equation: jex.JaxprEqn) -> str | None:
    """Of the compiled function that it calls, which may be all that has a derivative of its own."""
    if not _has_its_own_derivative(equation):
        return equation.params.get("name")
    names = [inner.params.get("name") for inner in equation.params["call_jaxpr"].eqns]
    return names[0] if len(names) == 1 else None


def _inside(equation: jex.JaxprEqn) -> list[jex.Jaxpr]:
    """What an equation runs, as far as autodiff sees it."""
    if _has_its_own_derivative(equation):
        return []
    return list(jex.jaxprs_in_params(equation.params))


def _has_its_own_derivative(equation: jex.JaxprEqn) -> bool:
    return equation.primitive.name in ("custom_jvp_call", "custom_vjp_call")


def _evaluated(
    traced: jex.ClosedJaxpr, inputs: Sequence[Any], relu: Callable[[Any], Any]
) -> list[Any]:
    """The outputs of a traced function with another function in the place of relu."""
    jaxpr = traced.jaxpr
    values = dict(zip(jaxpr.constvars + jaxpr.invars, [*traced.consts, *inputs], strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else values[atom]

    for equation in jaxpr.eqns:
        if _name(equation) == "relu":
            outputs = [relu(value(equation.invars[0]))]
        else:
            free = list(dict.fromkeys(v for v in equation.invars if isinstance(v, jex.Var)))
            new = _without_relu(equation, relu)
            alone = jaxpr.replace(constvars=[], invars=free, outvars=new.outvars, eqns=[new])
            outputs = jex.jaxpr_as_fun(jex.ClosedJaxpr(alone, ()))(*map(value, free))
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _without_relu(equation: jex.JaxprEqn, relu: Callable[[Any], Any]) -> jex.JaxprEqn:
    """A call, a loop or a branch with relu replaced in what it runs."""

    def retraced(param: Any) -> Any:
        if not _is_traced(param):
            return param
        closed = param if isinstance(param, jex.ClosedJaxpr) else jex.ClosedJaxpr(param, ())
        made = jax.make_jaxpr(lambda *inputs: _evaluated(closed, inputs, relu))(*closed.in_avals)
        return made if closed is param else made.jaxpr

    if not any(map(_kinks_of, _inside(equation))):
        return equation
    return equation.replace(params=jax.tree.map(retraced, equation.params, is_leaf=_is_traced))


def _is_traced(param: Any) -> bool:
    return isinstance(param, jex.Jaxpr | jex.ClosedJaxpr)
