"""Detection of decoders whose activations have a kink, and a smooth potential for relu decoders.

With relu in the decoder, grad U jumps at every hyperplane on which a unit switches, so the end of a
trajectory, and with it log w, is a discontinuous function of the parameters. Automatic
differentiation does not see jumps: the gradient of log w is then a biased gradient of the bound.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.extend.core as jex
from jaxtyping import Array, Float, PyTree

from hvax.checks import real_number
from hvax.hamiltonian.gradient import Potential
from hvax.models.data_point import Data, Mask
from hvax.models.vae import VAE

# Names in jax.nn. Each of these functions is jitted, so it appears in a jaxpr as a call by this
# name.
_KINKED = {"relu", "relu6", "leaky_relu", "selu", "hard_tanh", "hard_sigmoid", "hard_silu"}


class SmoothedPotential(eqx.Module):
    """A smooth potential for a flow through a relu decoder: U with softplus(s a) / s for relu(a).

        model = HVAE(vae, flow, potential=SmoothedPotential())

    Only the flow follows the smooth potential; log w still scores the decoder itself, so
    E[exp(log w)] = p(x) for every s, the `sharpness`. The end of a trajectory is then smooth in all
    parameters, so the gradient of log w is unbiased. At s = 10, the default, the flow is as good as
    one on U itself; a larger s makes the gradient noisier. The cost is one more decoder evaluation.

    Every `jax.nn.relu` between z and U is replaced, also inside library layers. Raises `ValueError`
    if there is none, or if another activation of jax.nn with a kink is found.
    """

    sharpness: float = eqx.field(static=True)

    def __init__(self, sharpness: float | int = 10.0):
        if not 0 < real_number(sharpness, "sharpness") < float("inf"):
            raise ValueError(f"sharpness must be finite and > 0, got {sharpness!r}.")
        self.sharpness = float(sharpness)

    def __call__(self, vae: VAE, x: Data, condition: Any = None, mask: Mask = None) -> Potential:
        own = vae.potential(x, condition, mask)

        def potential(z: Float[Array, " d"]) -> PyTree:
            traced, shape = jax.make_jaxpr(own, return_shape=True)(z)
            kinks = _kinks_of(traced.jaxpr)
            if kinks != {"relu"}:
                raise ValueError(
                    "the decoder must have jax.nn.relu and no other activation with a kink, got "
                    f"{', '.join(sorted(kinks)) or 'none'}. Do without SmoothedPotential."
                )
            values = _evaluated(traced, [z], self._softplus)
            return jax.tree.unflatten(jax.tree.structure(shape), values)

        return potential

    def _softplus(self, a: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.nn.softplus(self.sharpness * a) / self.sharpness


def kinks_of(function: Callable, *arguments: Any) -> set[str]:
    """The names of jax.nn activations with a kink that a function of arrays calls (traced only)."""
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
    """The name of the jitted function that an equation calls, also inside a custom derivative."""
    if not _has_custom_derivative(equation):
        return equation.params.get("name")
    names = [inner.params.get("name") for inner in equation.params["call_jaxpr"].eqns]
    return names[0] if len(names) == 1 else None


def _inside(equation: jex.JaxprEqn) -> list[jex.Jaxpr]:
    """The jaxprs inside an equation whose derivative is taken by automatic differentiation."""
    if _has_custom_derivative(equation):
        return []
    return list(jex.jaxprs_in_params(equation.params))


def _has_custom_derivative(equation: jex.JaxprEqn) -> bool:
    return equation.primitive.name in ("custom_jvp_call", "custom_vjp_call")


def _evaluated(
    traced: jex.ClosedJaxpr, inputs: Sequence[Any], relu: Callable[[Any], Any]
) -> list[Any]:
    """Evaluate a jaxpr with `relu` substituted for every call of jax.nn.relu."""
    # An interpreter of the jaxpr: `values` maps its variables to arrays, equation by equation.
    jaxpr = traced.jaxpr
    values = dict(zip(jaxpr.constvars + jaxpr.invars, [*traced.consts, *inputs], strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else values[atom]

    for equation in jaxpr.eqns:
        if _name(equation) == "relu":
            outputs = [relu(value(equation.invars[0]))]
        else:
            # Any other equation is run alone, as a one-equation jaxpr of its input variables.
            free = list(dict.fromkeys(v for v in equation.invars if isinstance(v, jex.Var)))
            new = _without_relu(equation, relu)
            alone = jaxpr.replace(constvars=[], invars=free, outvars=new.outvars, eqns=[new])
            outputs = jex.jaxpr_as_fun(jex.ClosedJaxpr(alone, ()))(*map(value, free))
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _without_relu(equation: jex.JaxprEqn, relu: Callable[[Any], Any]) -> jex.JaxprEqn:
    """An equation (call, loop, branch) with relu replaced in the jaxprs inside it."""

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
