"""The experiments: their mathematics against closed forms, and each run small to its end."""

import argparse
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from experiments import flows, gaussian, mnist, program, relu, uha
from experiments.common import Parts, spaced, write

import hvax
from hvax.data import Examples

SIGMA, DELTA = np.array([0.7, 1.3]), np.array([-0.4, 0.8])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Results and figures of the experiments in a folder of the test's."""
    places = ((flows, "FLOWS"), (gaussian, "GAUSSIAN"), (mnist, "MNIST"), (program, "PROGRAM"))
    for module, name in (*places, (program, "PACE")):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    for module in (flows, gaussian):
        monkeypatch.setattr(module, "FIGURES", tmp_path)
    return tmp_path


# The Gaussian model


def points_and_statistics(n):
    points = np.random.default_rng(0).normal(1.0, 2.0, (n, 2))
    return points, jnp.asarray(np.stack([points.mean(0), points.var(0)]))


def test_many_points_are_scored_by_their_mean_and_variance(x64):
    """As the sum of their log densities, to rounding."""
    points, x = points_and_statistics(7)
    z = np.array([0.3, -1.0])
    network = gaussian.Shift(jnp.asarray(DELTA), jnp.log(SIGMA))
    found = gaussian.ManyPoints(7).log_prob(network(jnp.asarray(z)), x)
    expected = scipy.stats.norm(z + DELTA, SIGMA).logpdf(points).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_many_points_are_drawn_by_their_mean_and_variance(x64):
    """Mean and variance of both statistics over 20,000 draws within 4.5 standard errors of theirs.

    Planted errors: chi2 with n degrees of freedom, or sigma^2 chi2 / (n - 1): 35 standard errors.
    """
    n, draws = 9, 20_000
    output = hvax.DiagonalGaussian(jnp.asarray(DELTA), jnp.log(SIGMA))
    keys = jax.random.split(jax.random.key(0), draws)
    found = np.asarray(jax.vmap(lambda key: gaussian.ManyPoints(n).sample(output, key=key))(keys))
    chi2 = scipy.stats.chi2(n - 1)
    for values, mean, variance, fourth in (
        (found[:, 0], DELTA, SIGMA**2 / n, 3 * SIGMA**4 / n**2),
        (
            found[:, 1],
            SIGMA**2 * (n - 1) / n,
            SIGMA**4 * chi2.var() / n**2,
            SIGMA**8 * (3 + chi2.stats(moments="k")) * chi2.var() ** 2 / n**4,
        ),
    ):
        z_mean = (values.mean(0) - mean) / np.sqrt(variance / draws)
        z_variance = (values.var(0) - variance) / np.sqrt((fourth - variance**2) / draws)
        assert np.all(np.abs(z_mean) < 4.5) and np.all(np.abs(z_variance) < 4.5)


def test_mean_field_at_the_posterior_gives_the_likelihood(x64):
    """log w is then log p(x_1 ... x_N) whatever the draw: N values of a dimension are a Gaussian of
    covariance sigma^2 I + 1 1'."""
    n = 7
    points, x = points_and_statistics(n)
    precision = 1 + n / SIGMA**2
    mean = n * (points.mean(0) - DELTA) / SIGMA**2 / precision
    vae = hvax.VAE(
        gaussian.MeanField(jnp.asarray(mean), jnp.asarray(-0.5 * np.log(precision))),
        hvax.Decoder(gaussian.Shift(jnp.asarray(DELTA), jnp.log(SIGMA)), gaussian.ManyPoints(n)),
    )
    expected = sum(
        scipy.stats.multivariate_normal(
            np.full(n, DELTA[j]), SIGMA[j] ** 2 * np.eye(n) + np.ones((n, n))
        ).logpdf(points[:, j])
        for j in range(2)
    )
    for seed in (0, 1):
        found = vae.log_weight(x, key=jax.random.key(seed))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_planar_flows_density_is_that_of_its_jacobian(x64):
    """log q = log N(z_0; 0, I) - log |det dz/dz_0| through five layers, where w'u < -1 as well."""
    for inner in (0.7, -3.0):
        layers = gaussian.Planar.drawn(5, 3, key=jax.random.key(1))
        across = layers.u - (layers.w @ layers.u) * layers.w / (layers.w @ layers.w)
        u = across + inner * layers.w / (layers.w @ layers.w)
        layers = gaussian.Planar(u, layers.w, layers.b, 5)
        z, log_q = layers.sample_and_log_prob(key=jax.random.key(2))
        u = layers.u + (jax.nn.softplus(inner) - 1 - inner) * layers.w / (layers.w @ layers.w)

        def through(z, u=u, layers=layers):
            for _ in range(5):
                z = z + u * jnp.tanh(layers.w @ z + layers.b)
            return z

        base = hvax.DiagonalGaussian(jnp.zeros(3), jnp.zeros(3))
        start, log_start = base.sample_and_log_prob(key=jax.random.key(2))
        np.testing.assert_allclose(z, through(start), rtol=1e-12)
        _, log_det = jnp.linalg.slogdet(jax.jacfwd(through)(start))
        np.testing.assert_allclose(log_q, log_start - log_det, rtol=1e-11)


@pytest.mark.slow
def test_their_planar_objective_has_one_optimum(x64):
    """Of the bound less 1/2 sum |(x_i - Delta) / sigma|^2: its gradient vanishes at Delta = x-bar,
    z = 0 and sigma^2 = 2 var x, where the bound's own does not, and not with half of x-bar in z,
    where the bound's own does but for the prior's pull.

    For the posterior at one z, so narrow that nothing of its spread is left.
    """
    n = 1000
    _, x = points_and_statistics(n)
    mean, variance = x

    def loss(free, function):
        delta, log_sigma, at = free
        decoder = hvax.Decoder(gaussian.Shift(delta, log_sigma), gaussian.ManyPoints(n))
        vae = hvax.VAE(gaussian.MeanField(at, jnp.full(2, -10.0)), decoder)
        return function(vae, x[None], key=jax.random.key(0))

    def slope(delta, at, sigma2, function):
        free = (delta, 0.5 * jnp.log(sigma2), at)
        found = jax.grad(loss)(free, function)
        return max(float(jnp.max(jnp.abs(g))) / n for g in found)

    theirs = partial(gaussian.their_planar_loss, num_points=n)
    assert slope(mean, jnp.zeros(2), 2 * variance, theirs) < 1e-3
    assert slope(mean / 2, mean / 2, 2 * variance, theirs) > 1e-2
    assert slope(mean, jnp.zeros(2), 2 * variance, hvax.loss) > 0.1
    assert slope(mean, jnp.zeros(2), variance, hvax.loss) < 1e-3
    assert slope(mean / 2, mean / 2, variance, hvax.loss) < 2e-3  # the prior's pull alone


@pytest.mark.slow
def test_the_gaussian_experiment_small(x64, elsewhere, monkeypatch):
    """One dimension, five methods, a few steps; a second run reads what is there, and the figures
    and the table come of it."""
    monkeypatch.setattr(gaussian, "DIMENSIONS", (51,))
    kinds = ("HVAE, K = 1", "HVAE, K = 1, no tempering", "planar flow, K = 1", "mean field")
    kinds += ("mean field, reused", "planar flow, K = 30, their objective")
    monkeypatch.setattr(gaussian, "METHODS", {name: gaussian.METHODS[name] for name in kinds})
    monkeypatch.setattr(gaussian, "DATA_SETS", 2)
    monkeypatch.setattr(gaussian, "ITERATIONS", 4)
    monkeypatch.setattr(gaussian, "CHUNK", 2)
    gaussian.run()
    records = list(gaussian.results())
    assert len(records) == len(gaussian.METHODS)
    assert all(len(r["sigma_error"]) == 2 and len(r["bound"]) == 2 for r in records)
    before = {path: path.stat().st_mtime_ns for path in gaussian.GAUSSIAN.iterdir()}
    gaussian.run()
    assert before == {path: path.stat().st_mtime_ns for path in gaussian.GAUSSIAN.iterdir()}
    assert all(path.stat().st_size > 10_000 for path in gaussian.draw())
    assert gaussian.table().count("\n") == 1 + len(gaussian.METHODS)


# MNIST


def test_their_adamax():
    """Its formulas in a loop of NumPy's."""
    gradients = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    gradients[3] = 0.0
    optimizer = mnist.their_adamax(0.1)
    found = expected = np.zeros(3, np.float32)
    state = optimizer.init(jnp.asarray(found))
    m = u = np.zeros(3)
    for g in gradients:
        step, state = optimizer.update(jnp.asarray(g), state)
        found = optax.apply_updates(found, step)
        m, u = 0.9 * m + 0.1 * g, np.maximum(0.999 * u + 1e-7, np.abs(g))
        expected = expected - 0.1 * m / u
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_mean_of_the_weights():
    """decay mean + (1 - decay) weights at every step, from the first weights on."""
    optimizer = mnist.averaged(optax.sgd(1.0), 0.75)
    weights = {"learned": jnp.asarray(8.0), "held": None}
    state = optimizer.init(weights)
    expected = 8.0
    for g in (1.0, -2.0, 4.0):
        step, state = optimizer.update({"learned": jnp.asarray(g), "held": None}, state, weights)
        weights = optax.apply_updates(weights, step)
        expected = 0.75 * expected + 0.25 * float(weights["learned"])
    assert float(weights["learned"]) == 5.0
    np.testing.assert_allclose(state.mean["learned"], expected, rtol=1e-6)


def test_a_hash_is_that_of_what_matters():
    """Results keep their names; an option that a flow has no use for changes none."""
    config = mnist.Config()
    assert config.hash == "e0ab29d6"
    assert mnist.Config(flow="dais", tempering="none").hash == mnist.Config(flow="dais").hash
    assert mnist.Config(flow="none", num_steps=3).hash == mnist.Config(flow="none").hash
    assert mnist.Config(num_steps=3).hash != config.hash
    assert mnist.Config(batch_size=50).hash != config.hash
    assert mnist.Config(batch_size=50).name == config.name + ", batch size 50"


def images(n):
    return np.random.default_rng(0).integers(1, 255, (n, 28, 28)).astype(np.uint8)


@pytest.mark.parametrize(
    "config",
    [
        mnist.Config(network="mlp", num_steps=2, epochs=2),
        mnist.Config(
            network="mlp", flow="dais", num_steps=1, recipe="hvax", epochs=1, plain_epochs=1
        ),
        mnist.Config(network="mlp", flow="none", recipe="hvax", epochs=1, train_samples=2),
        mnist.Config(
            network="mlp", num_steps=1, recipe="hvax", epochs=1, schedule="constant", average=0.5
        ),
    ],
    ids=lambda config: config.name,
)
def test_the_mnist_experiment_small(config, elsewhere, monkeypatch):
    """Trained, scored, written once, and in the table under its hash."""
    bits = np.random.default_rng(1).integers(0, 2, (100, 28, 28)).astype(np.uint8)
    parts = Parts(Examples(images(200), None, 255.0), bits, bits)
    monkeypatch.setattr(mnist, "parts_of", lambda *args, **options: parts)
    options = argparse.Namespace(data_dir="", points=20, num_samples=5, passes=2)
    path = mnist.run(config, 1, options)
    record = json.loads(path.read_text())
    assert record["hash"] == config.hash and record["seed"] == 1
    assert record["epochs"] == config.epochs + config.plain_epochs
    assert record["test_points"] == 20 and len(record["nll_passes"]) == 2
    # 784 independent fair bits have 543 nats; nothing is learned in a step or two.
    assert 500 < record["nll"] < 700 and record["nll"] <= -record["elbo"] + 1e-3
    assert mnist.run(config, 1, options) == path
    assert f"`{config.hash}`" in mnist.table() and config.name in mnist.table()
    other = record | {"hash": "other", "elbo": record["elbo"] - 2, "nll": record["nll"] + 1}
    write(mnist.MNIST / "other-1.json", other)
    assert "| 1 | -2.00 | 1.00 | `other` |" in mnist.against(config.hash)
    with pytest.raises(SystemExit, match="no run has the hash nothing"):
        mnist.against("nothing")


# The curves


def test_the_curves_small(elsewhere, monkeypatch):
    """On digits: the pace, two settings from one plain VAE, the figure and the table."""
    small = flows.Data(2, (4,), (0.1, 0.2), 10, 5)
    monkeypatch.setitem(flows.DATA, "digits", small)
    monkeypatch.setattr(flows, "paces", partial(flows.paces, rounds=1, updates=2))
    only = ["vae", "dais 1"]
    flows.measure_pace("digits", "", only)
    pace = json.loads((flows.FLOWS / "digits" / "pace.json").read_text())["seconds"]
    assert set(pace) == set(only) and all(0 < seconds < 60 for seconds in pace.values())
    with pytest.raises(SystemExit, match="no pace is known of uha 4: measure it first"):
        flows.run_all("digits", "", [0], ["uha 4"])
    flows.run_all("digits", "", [0], only)
    records = {record["setting"]: record for record in flows.results("digits")}
    assert len(records["vae"]["curve"]) == 2 and len(records["dais 1"]["curve"]) == 1
    assert records["dais 1"]["curve"][-1]["epochs"] >= 1
    for record in records.values():
        assert all(0 < point["nll"] < -point["elbo"] + 1e-3 for point in record["curve"])
    monkeypatch.setattr(flows, "AIS_POINTS", 2)
    for _ in range(2):  # the second time there is nothing to do
        flows.anneal_all("digits", "", [0], ["vae"])
    (plain,) = [r for r in flows.results("digits") if r["setting"] == "vae"]
    assert len(plain["ais"]["each"]) == 2 and 10 < plain["ais"]["nll"] < 60
    assert flows.draw("digits").stat().st_size > 10_000
    assert flows.table("digits").count("\n") == 1 + 2 + 1


def test_settings_are_compared_point_by_point(elsewhere):
    """Of two seeds: what a point costs both settings is in no error. Those without AIS are left
    out."""
    for seed in (0, 1):
        for name, each in (("vae", [90.0, 10.0, 50.0]), ("dais 4", [88.0, 9.0 + seed, 48.5])):
            record = {"setting": name, "seed": seed, "ais": {"each": each}}
            write(flows.FLOWS / "mnist" / f"{name}-{seed}.json", record)
    write(flows.FLOWS / "mnist" / "uha 4-0.json", {"setting": "uha 4", "seed": 0})
    # Differences 2, 0.5 (over seeds) and 1.5: mean 4/3, variance 7/12, over 3 points.
    head, _, vae, dais = flows.apart("mnist").splitlines()
    assert head == "| above: | vae | dais 4 |"
    assert vae == "| vae | +0.00 ± 0.00 | +1.33 ± 0.44 |"
    assert dais == "| dais 4 | -1.33 ± 0.44 | +0.00 ± 0.00 |"


@pytest.mark.slow
def test_what_relu_does_small(monkeypatch):
    """The two derivatives agree through softplus."""
    for name, value in (("BATCHES", 3), ("BATCH", 4)):
        monkeypatch.setattr(relu, name, value)
    vae = hvax.VAE(*hvax.mlp((6,), 3, hidden=(5,), key=jax.random.key(0)))
    bits = np.random.default_rng(0).integers(0, 2, (12, 6)).astype(np.float32)
    row = relu.slopes(hvax.HVAE(vae, hvax.HamiltonianFlow.uha(2)), bits)
    assert abs(row["autodiff"] - row["rise"]) < 0.02 + 0.02 * abs(row["rise"])
    assert relu.table([{"name": "softplus"} | row]).count("\n") == 2


@pytest.mark.slow
def test_equal_seconds_of_the_program(elsewhere, monkeypatch):
    """Epochs by the pace; a run of the real program on digits, and its row in the table."""
    write(program.PACE, {"seconds": {"vae": 1.0, "dais 4": 4.0, "uha 4": 4.0, "iwae 5, dreg": 2.0}})
    assert {name: program.epochs_of(name, 20) for name in program.SETTINGS} == {
        "vae": "--epochs 20",
        "iwae 5, dreg": "--epochs 10",
        "dais 4": "--epochs 14",  # 2 of them with it, at 4 units each
        "uha 4": "--epochs 14",
        "uha 4, early": "--epochs 11 --flow-from-epoch 9",
    }
    name = "uha 4, early"
    small = "--test-points 6 --hidden 4 --latent-size 2 --num-samples 5"
    monkeypatch.setitem(program.SETTINGS, name, (f"{program.SETTINGS[name][0]} {small}", 5))
    monkeypatch.setattr(program, "SOURCE", "digits")
    record = program.run(name, 0, 20, "")
    write(program.PROGRAM / "one.json", record)
    assert record["epochs"] == 11 and record["num_samples"] == 5 and 20 < record["nll"] < 60
    assert "--epochs 11 --flow-from-epoch 9` | 1 |" in program.table()


def test_the_table_of_the_published_setting():
    """An importance weighted bound and a flow's beside the published ones."""
    record = {"K": 8, "vae_epochs": 200, "epochs": 10, "rate": 1e-4, "bound": -90.0, "nll": 88.0}
    record |= {"nll_there": 88.1, "nll_by_ais": 88.2}
    lines = uha.table([{"kind": "uha", **record}, {"kind": "iw", **record}]).splitlines()
    assert "-89.8" in lines[2] and "-90.5" in lines[3]


def test_spaced_points():
    x = np.arange(10)
    assert spaced(x, 3).tolist() == [0, 4, 9] and spaced(x, 99).tolist() == x.tolist()


def test_a_result_is_whole_or_not_there(tmp_path):
    with pytest.raises(TypeError):
        write(tmp_path / "a" / "b.json", {"bad": object()})
    assert not (tmp_path / "a" / "b.json").exists()
    write(tmp_path / "a" / "b.json", {"good": 1})
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"good": 1}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]
