"""Networks that end in the parameters of a density."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax.models.heads import DispersedCounts, JointGaussian, SigmaHead, SplitGaussian
from hvax.models.likelihood import NegativeBinomial
from hvax.parameters import trainable

RAW = np.array([-1e3, -30.0, -2.0, 0.0, 0.5, 3.0, 40.0, 1e3])


class Scale(eqx.Module):
    factor: jax.Array

    def __call__(self, x):
        return self.factor * x


def bounded(log_sigma, lower, upper):
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    return middle + half * np.tanh((log_sigma - middle) / half)


@pytest.mark.parametrize(("lower", "upper"), [(-10.0, 10.0), (-2.0, 1.0)])
@pytest.mark.parametrize("form", ["log", "softplus"])
def test_sigma_head(x64, form, lower, upper):
    head = SigmaHead(lambda raw: raw, form, lower=lower, upper=upper)
    # Below -30, log softplus(raw) is raw to 1e-13.
    softplus = np.where(RAW < -30, RAW, np.log(np.logaddexp(0, np.maximum(RAW, -700))))
    exact = bounded({"log": RAW, "softplus": softplus}[form], lower, upper)
    # log_softplus takes the line for the function below -20: 1e-13 at raw = -30.
    np.testing.assert_allclose(head(jnp.asarray(RAW)), exact, rtol=0, atol=1e-12)


def test_sigma_heads_default_is_a_log_sigma_in_ten():
    head = SigmaHead(lambda raw: raw)
    assert (head.form, head.lower, head.upper) == ("log", -10.0, 10.0)


def test_sigma_head_refuses_bounds_that_hold_nothing():
    with pytest.raises(ValueError, match=r"lower < upper, got 1\.0 and 1\.0"):
        SigmaHead(lambda raw: raw, lower=1.0, upper=1.0)


def test_joint_gaussian_shares_its_trunk():
    joint = JointGaussian(Scale(jnp.array(2.0)), lambda h: h + 1, SigmaHead(lambda h: -h))
    q = joint(jnp.array([0.5, 1.0]))
    np.testing.assert_array_equal(q.mean, [2.0, 3.0])
    np.testing.assert_allclose(q.log_sigma, bounded(np.array([-1.0, -2.0]), -10, 10), rtol=1e-6)


def test_split_gaussian_has_two_networks():
    split = SplitGaussian(lambda x: x + 1, lambda x: 3 * x)
    q = split(jnp.array([0.5, 1.0]))
    np.testing.assert_array_equal(q.mean, [1.5, 2.0])
    np.testing.assert_allclose(q.log_sigma, bounded(np.array([1.5, 3.0]), -10, 10), rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda head: SplitGaussian(lambda x: x, head),
        lambda head: JointGaussian(*[lambda x: x] * 2, head),
    ],
)
def test_a_plain_network_becomes_a_bounded_head_and_a_head_stays(make):
    network = Scale(jnp.array(1e5))
    plain = make(network)
    assert plain.log_sigma.network is network and plain(jnp.ones(2)).log_sigma.max() <= 10
    narrow = SigmaHead(network, upper=1.0)
    assert make(narrow).log_sigma is narrow


@pytest.mark.parametrize("log_dispersion", [0.3, np.array([0.3, 0.3, 0.3])])
def test_dispersed_counts(log_dispersion):
    network = DispersedCounts(lambda z: jnp.concatenate([z, z[:1]]), log_dispersion)
    rate = network(jnp.array([1.0, -2.0]))
    np.testing.assert_array_equal(rate.log_mean, [1.0, -2.0, 1.0])
    np.testing.assert_array_equal(rate.log_dispersion, jnp.full(3, 0.3))
    assert trainable(network).log_dispersion
    assert NegativeBinomial().log_prob(rate, jnp.array([0.0, 3.0, 1.0])).shape == ()
