"""Models on the same points with the same draws: each number is that of `evaluate`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hvax
from models_for_tests import linear_gaussian

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
MODEL = linear_gaussian()
OTHER = eqx.tree_at(lambda m: m.decoder.network.bias, MODEL, jnp.full(3, 0.5))
KEY = jax.random.key(1)


def test_numbers_and_differences_to_the_first():
    models = {"a": MODEL, "b": OTHER, "a again": MODEL}
    compared = hvax.compare(models, X, key=KEY, num_samples=4, progress=False)
    assert list(compared) == list(models)
    assert compared["a"].difference is None
    scores = {
        name: hvax.evaluate(model, X, key=KEY, num_samples=4, progress=False)
        for name, model in models.items()
    }
    assert [compared[name].scores.nll for name in models] == [s.nll for s in scores.values()]
    assert compared["b"].difference == hvax.difference(scores["b"], scores["a"])
    assert compared["a again"].difference == dict.fromkeys(("elbo", "elbo_se", "nll", "nll_se"), 0)
    learned = jax.tree.leaves(eqx.filter(MODEL, hvax.trainable(MODEL)))
    assert compared["a"].parameters == sum(leaf.size for leaf in learned)


def test_what_is_refused_before_any_work(monkeypatch):
    def work(*_, **__):
        pytest.fail("it began to work")

    monkeypatch.setattr("hvax.evaluation.compare.evaluate", work)
    with pytest.raises(ValueError, match="`models` must be at least two, by name, got 1"):
        hvax.compare({"a": MODEL}, X)
    with pytest.raises(TypeError, match=r"models\['b'\] must be"):
        hvax.compare({"a": MODEL, "b": 3}, X)
    with pytest.raises(ValueError, match="shape"):
        hvax.compare({"a": MODEL, "b": MODEL}, X[:, :2])
