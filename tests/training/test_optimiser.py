"""`faster_flow`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hvax
from models_for_tests import linear_gaussian

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)))


def stepped(model, optimiser, steps=3):
    state = hvax.train_state(model, optimiser, key=jax.random.key(1))
    for _ in range(steps):
        state, _ = hvax.train_step(state, X)
    return state


@pytest.mark.parametrize("base", [optax.sgd(1e-3), optax.adam(1e-3)], ids=["sgd", "adam"])
def test_the_flows_step_is_longer_and_the_networks_is_not(base):
    """By a factor of 7 in each of the flow's numbers, after one step; 1 in the networks'."""
    model = hvax.HVAE(linear_gaussian(), hvax.HamiltonianFlow.dais(2))
    plain, faster = (
        stepped(model, optimiser, 1) for optimiser in (base, hvax.faster_flow(base, 7.0))
    )
    assert jax.tree.structure(plain.opt_state) == jax.tree.structure(faster.opt_state)
    for part, factor in (("flow", 7.0), ("vae", 1.0)):
        before, once, longer = (
            jax.tree.leaves(eqx.filter(getattr(each, part), hvax.trainable(getattr(each, part))))
            for each in (model, plain.model, faster.model)
        )
        assert len(before) > 1
        for start, a, b in zip(before, once, longer, strict=True):
            tolerance = 8 * np.finfo(start.dtype).eps * np.max(np.abs(start))
            np.testing.assert_allclose(b - start, factor * (a - start), rtol=1e-5, atol=tolerance)


def test_a_model_without_a_flow_is_trained_as_before():
    plain, faster = (
        stepped(linear_gaussian(), optimiser)
        for optimiser in (optax.adam(1e-3), hvax.faster_flow(optax.adam(1e-3)))
    )
    for a, b in zip(jax.tree.leaves(plain.model), jax.tree.leaves(faster.model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("factor", [0, -1.0, np.nan, np.inf, True])
def test_a_factor_that_is_none_is_refused(factor):
    with pytest.raises(ValueError, match="factor must be a finite number > 0, got"):
        hvax.faster_flow(optax.adam(1e-3), factor)


def test_what_is_no_optimiser_is_refused():
    with pytest.raises(TypeError):
        hvax.faster_flow(1e-3)
