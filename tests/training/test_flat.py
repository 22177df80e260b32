"""`flatten_small`: the same steps, on fewer arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hvax.training import clip_by_running_norm, flatten_small
from hvax.training.flat import SMALL, join_small

CHANCE = np.random.default_rng(0)
TREE = {
    "large": CHANCE.normal(size=(SMALL // 64, 64)).astype(np.float32),
    "matrix": CHANCE.normal(size=(3, 4)).astype(np.float32),
    "half": CHANCE.normal(size=5).astype(np.float16),
    "nothing": None,
    "number": np.float32(1.5),
}
TREE = jax.tree.map(jnp.asarray, TREE)


def test_small_arrays_of_a_dtype_become_one():
    joined, split = join_small(TREE)
    assert sorted((a.shape, str(a.dtype)) for a in joined) == [
        ((5,), "float16"),
        ((13,), "float32"),
        ((SMALL // 64, 64), "float32"),
    ]
    again = split(joined)
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    for a, b in zip(jax.tree.leaves(TREE), jax.tree.leaves(again), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert join_small({})[1]([]) == {}


@pytest.mark.parametrize(
    "optimizer",
    [optax.adam(0.1), optax.adamw(0.1), clip_by_running_norm(optax.sgd(0.1, momentum=0.9), 1.01)],
    ids=["adam", "adamw", "clipped"],
)
def test_steps_are_the_same_to_rounding(optimizer):
    flat = flatten_small(optimizer)
    params = {name: a for name, a in TREE.items() if name != "half"}
    ours = theirs = params
    state, other = flat.init(params), optimizer.init(params)
    assert len(jax.tree.leaves(state)) < len(jax.tree.leaves(other))
    for scale in (1.0, -2.0, 3.0):
        step, state = flat.update(jax.tree.map(lambda a, s=scale: s * a, params), state, ours)
        ours = optax.apply_updates(ours, step)
        step, other = optimizer.update(
            jax.tree.map(lambda a, s=scale: s * a, params), other, theirs
        )
        theirs = optax.apply_updates(theirs, step)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_a_line_search_sees_the_model():
    """It calls the loss of the whole model, at points between."""

    def loss(params):
        return jnp.sum(params["a"] ** 2) + jnp.sum(params["b"] ** 2)

    def found(search):
        params = {"a": jnp.ones(3), "b": jnp.full((2, 2), 2.0)}
        state = search.init(params)
        for _ in range(3):
            value, grad = jax.value_and_grad(loss)(params)
            step, state = search.update(grad, state, params, value=value, grad=grad, value_fn=loss)
            params = optax.apply_updates(params, step)
        return loss(params)

    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10))
    assert found(search) < 1
    np.testing.assert_allclose(found(flatten_small(search)), found(search), rtol=1e-5)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError):
        flatten_small("adam")
