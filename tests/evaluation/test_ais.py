"""Annealed importance sampling brackets log p(x) where log p(x) is known in closed form."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import hvax
from hvax.evaluation import ais
from hvax.evaluation.ais import annealed_importance_sampling, simulate, temperatures
from hvax.evaluation.finished import Bounds
from hvax.exceptions import DamagedCheckpoint, FailedDraws

D_LATENT, D_DATA, SIGMA = 2, 4, 0.7


class Affine(eqx.Module):
    weight: jax.Array
    bias: jax.Array

    def __call__(self, z):
        return self.weight @ z + self.bias


class RoughEncoder(eqx.Module):
    """A posterior that is neither right nor absurd."""

    def __call__(self, x):
        return hvax.DiagonalGaussian(0.1 * x[:D_LATENT], jnp.full(D_LATENT, -0.5))


def linear_model():
    decoder = Affine(
        jax.random.normal(jax.random.key(1), (D_DATA, D_LATENT)), 0.1 * jnp.arange(float(D_DATA))
    )
    return hvax.VAE(RoughEncoder(), hvax.Decoder(decoder, hvax.FixedGaussian(SIGMA)))


def log_p(model, x):
    weight, bias = (
        np.asarray(a, np.float64)
        for a in (model.decoder.network.weight, model.decoder.network.bias)
    )
    covariance = weight @ weight.T + SIGMA**2 * np.eye(D_DATA)
    return scipy.stats.multivariate_normal(bias, covariance).logpdf(np.asarray(x))


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_both_bounds_close_on_the_closed_form(x64, start):
    """The means over 25 points of lower and upper bound are within 4.5 standard errors of
    log p(x), and those errors are below 0.008 nat.

    Planted errors: the weights taken behind their transitions put the lower bound 0.023 nat, 4.8
    standard errors, too high (0.21 at 20 temperatures); without the Metropolis correction the lower
    bound is 8.2 nats too low.
    """
    model = linear_model()
    x, z = simulate(model, 25, D_LATENT, key=jax.random.key(2))
    result = annealed_importance_sampling(
        model,
        np.asarray(x),
        key=jax.random.key(3),
        start=start,
        num_temperatures=600,
        num_chains=100,
        num_leapfrog=5,
        posterior_draws=z,
        progress=False,
    )
    truth = log_p(model, x)
    assert 0.5 < result.acceptance < 0.8
    for bound in (result.lower, result.upper):
        error = np.std(bound - truth, ddof=1) / np.sqrt(25)
        assert error < 0.008
        assert abs(np.mean(bound - truth)) < 4.5 * error


def test_few_temperatures_bound_from_both_sides(x64):
    """With 3 temperatures and one chain the bounds are loose, each on its own side."""
    model = linear_model()
    x, z = simulate(model, 25, D_LATENT, key=jax.random.key(4))
    result = annealed_importance_sampling(
        model,
        np.asarray(x),
        key=jax.random.key(5),
        num_temperatures=3,
        num_chains=1,
        posterior_draws=z,
        progress=False,
    )
    truth = log_p(model, x)
    assert np.mean(result.lower - truth) < -0.1
    assert np.mean(result.upper - truth) > 0.1


def test_simulated_data_come_with_their_posterior_draw(x64):
    """Over many simulated points, x = W z + b + N(0, SIGMA^2): the residual's standard deviation
    is SIGMA within 4.5 / sqrt(2 * 4000 * 4) = 2.5%."""
    model = linear_model()
    x, z = simulate(model, 4000, D_LATENT, key=jax.random.key(6))
    residual = x - jax.vmap(model.decoder)(z)
    assert abs(float(residual.std()) / SIGMA - 1) < 0.025


def test_temperatures_rise_from_zero_to_one():
    b = temperatures(10)
    assert b[0] == 0 and b[-1] == 1 and np.all(np.diff(b) > 0)
    assert len(temperatures(1)) == 2


def few(model, x, **options):
    settings = {"key": jax.random.key(3), "num_temperatures": 40, "num_chains": 4,
                "num_leapfrog": 2, "progress": False}  # fmt: skip
    return annealed_importance_sampling(model, np.asarray(x), **settings | options)


@pytest.mark.parametrize("n", [1, 26, 57])
def test_any_number_of_points(n):
    """Seen to fail before at 26 and 57: the acceptances of unequal batches were concatenated.
    All points of a batch are as they are beside others."""
    model = linear_model()
    x, z = simulate(model, n, D_LATENT, key=jax.random.key(2))
    result = few(model, x, posterior_draws=z)
    assert result.lower.shape == result.upper.shape == (n,) and result.lost == 0
    truth = log_p(model, x)
    assert np.abs(result.lower - truth).mean() < 2 > np.abs(result.upper - truth).mean()
    if n > 25:
        first = few(model, x[:25], posterior_draws=z[:25])
        np.testing.assert_allclose(result.lower[:25], first.lower, rtol=1e-4)
        np.testing.assert_allclose(result.upper[:25], first.upper, rtol=1e-4)


def test_the_last_batch_compiles_nothing(caplog):
    """Its rows are filled up to 25; seen to fail where they are not."""
    model = linear_model()
    x, _ = simulate(model, 57, D_LATENT, key=jax.random.key(2))
    compiled = []
    with jax.log_compiles():
        for n in (25, 57):
            caplog.clear()
            few(model, x[:n], num_chains=3)
            compiled.append(sum("_block" in record.getMessage() for record in caplog.records))
    assert compiled[0] > 0 == compiled[1]


class Overflowing(eqx.Module):
    """Log rates of 60 z: beyond |z| = 1.5, for one chain in seven, float32 holds no rate."""

    def __call__(self, z):
        return 60.0 * z * jnp.ones(3)


def test_a_draw_that_overflows_has_no_weight():
    """Against quadrature, at a point of which the posterior is at moderate z.

    Seen to fail before: NaN. The tolerance is 4.5 times the standard deviation over 50 equal
    points, 0.2, over sqrt(50).
    """
    encoder = hvax.VAE(*hvax.mlp((3,), 1, hidden=(2,), key=jax.random.key(0))).encoder
    model = hvax.VAE(encoder, hvax.Decoder(Overflowing(), hvax.Poisson()))
    z = np.linspace(-1.4, 1.4, 200_001)
    x = np.array([3.0, 5.0, 4.0])
    density = scipy.stats.poisson.pmf(x, np.exp(60 * z)[:, None]).prod(axis=1)
    truth = np.log(np.sum(density * scipy.stats.norm.pdf(z)) * (z[1] - z[0]))
    result = few(model, np.tile(x, (50, 1)), num_temperatures=400, num_chains=100)
    if not jax.config.read("jax_enable_x64"):
        assert 0.05 < result.lost / (50 * 100) < 0.25
    spread = np.std(result.lower, ddof=1)
    assert spread < 0.5
    # A lower bound: low by about half the variance, and no more.
    assert -1.0 * spread < np.mean(result.lower) - truth < 4.5 * spread / np.sqrt(50)


def test_a_point_of_which_every_chain_fails_is_said_to_be_lost():
    class Never(eqx.Module):
        def __call__(self, z):
            return jnp.full(3, 1e4)

    encoder = hvax.VAE(*hvax.mlp((3,), 1, hidden=(2,), key=jax.random.key(0))).encoder
    model = hvax.VAE(encoder, hvax.Decoder(Never(), hvax.Poisson()))
    with pytest.warns(FailedDraws, match="every chain fails at 2 of 2 points"):
        result = few(model, np.ones((2, 3)), posterior_draws=np.zeros((2, 1), np.float32))
    assert np.all(result.lower == -np.inf) and result.lost == 8
    assert np.all(result.upper == np.inf)  # of nothing, an upper bound says nothing


# Checkpoints


class Killed(BaseException):
    """As a signal: nothing catches it."""


def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    """Killed in the second of three batches: the first is not done again, to the last bit."""
    model = linear_model()
    x, z = simulate(model, 57, D_LATENT, key=jax.random.key(2))
    expected = few(model, x, posterior_draws=z)
    done = []
    batch = ais._batch

    def counted(plan, x, indices, bar):
        if len(done) == 1:
            raise Killed
        done.append(int(indices[0]))
        return batch(plan, x, indices, bar)

    with monkeypatch.context() as patch:
        patch.setattr(ais, "_batch", counted)
        with pytest.raises(Killed):
            few(model, x, posterior_draws=z, checkpoint=tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    assert done == [0] and list(json.loads(file.read_text())["batches"]) == ["0"]
    with monkeypatch.context() as patch:
        begun = []
        patch.setattr(ais, "_batch", lambda *a: (begun.append(int(a[2][0])), batch(*a))[1])
        again = few(model, x, posterior_draws=z, checkpoint=tmp_path / "kept")
        assert begun == [25, 50]
        few(model, x, posterior_draws=z, checkpoint=str(tmp_path / "kept"))
        assert begun == [25, 50]
    for name in ("lower", "upper"):
        np.testing.assert_array_equal(getattr(again, name), getattr(expected, name))
    assert again.acceptance == expected.acceptance


def test_batches_of_other_work_are_not_taken(tmp_path, monkeypatch):
    """Another model, other data, settings or keys: each is begun, and has a file of its own."""
    model = linear_model()
    x, z = simulate(model, 5, D_LATENT, key=jax.random.key(2))
    network = model.decoder.network
    other = eqx.tree_at(lambda m: m.decoder.network.bias, model, network.bias + 1e-3)
    cases = [
        (model, x, {}), (other, x, {}), (model, x + 1e-3, {}), (model, x[:4], {}),
        (model, x, {"num_temperatures": 41}), (model, x, {"num_chains": 5}),
        (model, x, {"num_leapfrog": 3}), (model, x, {"start": "posterior"}),
        (model, x, {"key": jax.random.key(4)}), (model, x, {"posterior_draws": z}),
        (model, x, {"posterior_draws": z + 1e-3}),
    ]  # fmt: skip
    begun = []

    def batch(plan, x, indices, bar):
        begun.append(plan)
        n = len(indices)
        upper = None if plan.posterior_draws is None else np.zeros(n)
        return Bounds(np.zeros(n), upper, np.ones(n), np.zeros(n, np.int64))

    monkeypatch.setattr(ais, "_batch", batch)
    for number, (some, data, options) in enumerate(cases, start=1):
        for _ in range(2):
            few(some, data, checkpoint=tmp_path, **options)
            assert len(begun) == len(list(tmp_path.iterdir())) == number


@pytest.mark.parametrize("damage", [b"", b"{}", b"\x00\xff"], ids=["empty", "no record", "noise"])
def test_a_damaged_checkpoint_is_said_to_be_so_and_done_again(tmp_path, damage):
    model = linear_model()
    x, _ = simulate(model, 5, D_LATENT, key=jax.random.key(2))
    expected = few(model, x, checkpoint=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for content in (damage, whole.replace(b"-", b"", 1)):
        file.write_bytes(content)
        with pytest.warns(DamagedCheckpoint, match="its batches are computed again"):
            again = few(model, x, checkpoint=tmp_path)
        np.testing.assert_array_equal(again.lower, expected.lower)
        assert file.read_bytes() == whole


def test_each_point_has_its_posterior_draw():
    x = np.zeros((3, D_DATA))
    with pytest.raises(ValueError, match="posterior_draws must be one for each of 3 points, got 2"):
        few(linear_model(), x, posterior_draws=np.zeros((2, D_LATENT)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_temperatures": 0}, "num_temperatures must be >= 1"),
        ({"num_chains": 0}, "num_chains must be >= 1"),
        ({"num_leapfrog": 0}, "num_leapfrog must be >= 1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        annealed_importance_sampling(
            linear_model(), np.zeros((2, D_DATA)), key=jax.random.key(0), **options
        )
