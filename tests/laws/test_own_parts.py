"""Models, flows and posteriors of a user's own keep the contract."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import hvax
from hvax.batch import Batch
from models_for_tests import Affine, linear_gaussian
from settings_for_tests import slow

W, B, SIGMA = np.array([[1.0, 0.5], [-1.0, 0.5], [0.3, 2.0]]), np.array([0.1, 0.2, 0.3]), 0.8
X = np.random.default_rng(0).normal(size=(5, 3))
TRUTH = stats.multivariate_normal(B, W @ W.T + SIGMA**2 * np.eye(3)).logpdf(X)


class Laplacian(eqx.Module):
    """A posterior that is no Gaussian, and holds a function."""

    mean: jax.Array
    scale: jax.Array
    absolute: object = jnp.abs

    @property
    def sigma(self):
        return jnp.sqrt(2.0) * self.scale

    def log_prob(self, z):
        return jnp.sum(-self.absolute(z - self.mean) / self.scale - jnp.log(2 * self.scale))

    def sample_and_log_prob(self, *, key):
        z = self.mean + self.scale * jax.random.laplace(key, self.mean.shape, self.mean.dtype)
        return z, self.log_prob(z)


class Encoder(eqx.Module):
    """The exact posterior's mean, and a Laplacian about it."""

    matrix: jax.Array
    log_scale: jax.Array

    def __call__(self, x):
        return Laplacian(self.matrix @ (x - jnp.asarray(B, x.dtype)), jnp.exp(self.log_scale))


class Own(hvax.AbstractLatentModel):
    """A model of the user's own: one draw of q, without a flow."""

    encoder: Encoder
    decoder: hvax.Decoder
    prior: hvax.StandardNormal
    wrong: float = 0.0

    def posterior(self, x):
        return self.encoder(x)

    def draw(self, posterior, target, *, key):
        z, log_q = posterior.sample_and_log_prob(key=key)
        joint = self.log_joint(target, z)
        return hvax.Draw(
            posterior=posterior,
            output=joint.output,
            z_init=z,
            z=z,
            log_weight=joint.log_likelihood + joint.log_prior - log_q + self.wrong,
            log_likelihood=joint.log_likelihood,
            log_prior=joint.log_prior,
            log_posterior=log_q,
        )


class Unmasked(hvax.AbstractLikelihood):
    """A likelihood that knows of no mask."""

    def log_prob(self, output, x):
        return jnp.sum(-0.5 * (x - output) ** 2)

    def mean(self, output):
        return output

    def sample(self, output, *, key):
        return output + jax.random.normal(key, output.shape)

    def check(self, x):
        pass


class Downhill(hvax.AbstractFlow):
    """z - step * grad U(z), with its log-determinant."""

    step: hvax.Learned
    share: float = 1.0  # of the log-determinant; 0 forgets it
    num_gradients: int = 1

    def __call__(self, potential, z, *, key, start=None):
        def move(z):
            return z - self.step.value * jax.grad(lambda z: potential(z)[0])(z)

        _, log_det = jnp.linalg.slogdet(jax.jacobian(move)(z))
        end = move(z)
        return hvax.FlowResult(end, self.share * log_det, potential(end)[1], None)


def parts(scale=-0.5):
    precision = np.eye(2) + W.T @ W / SIGMA**2
    encoder = Encoder(
        jnp.asarray(np.linalg.solve(precision, W.T / SIGMA**2)), jnp.full(2, float(scale))
    )
    decoder = hvax.Decoder(Affine(jnp.asarray(W), jnp.asarray(B)), hvax.FixedGaussian(SIGMA))
    return encoder, decoder


def own(**options):
    return Own(*parts(), hvax.StandardNormal(), **options)


def flowing(**options):
    return hvax.HVAE(hvax.VAE(*parts()), Downhill(hvax.Learned(0.05, upper=0.2), **options))


def largest_z(model, draws=20_000):
    """How many standard errors the mean weight is from p(x), at the point where it is most."""
    keys = jax.random.split(jax.random.key(1), draws)
    one = eqx.filter_jit(lambda x, keys: jax.vmap(lambda key: model.log_weight(x, key=key))(keys))
    scores = []
    for x, truth in zip(X, TRUTH, strict=True):
        ratio = np.exp(np.asarray(one(jnp.asarray(x), jax.random.clone(keys)), np.float64) - truth)
        scores.append((ratio.mean() - 1) / (ratio.std() / np.sqrt(draws)))
    return np.max(np.abs(scores))


@pytest.mark.parametrize("make", [own, flowing])
def test_the_mean_weight_is_p_x(make, x64):
    """4.5 standard errors of 20,000 draws. Weights 10% too large lie more than 9 off, a
    log-determinant left out more than 20."""
    assert largest_z(make()) < 4.5


def test_planted_errors_are_seen(x64):
    assert largest_z(own(wrong=0.1)) > 9
    assert largest_z(flowing(share=0.0)) > 20


@pytest.mark.parametrize("make", [slow(own), flowing])
def test_everything_takes_them(make, tmp_path):
    """Training raises the bound, and every door that takes a model takes this one."""
    model = eqx.tree_at(lambda m: m.decoder.network.bias, own(), jnp.zeros(3))
    if make is flowing:
        vae = hvax.VAE(model.encoder, model.decoder)
        model = hvax.HVAE(vae, Downhill(hvax.Learned(0.05, upper=0.2)))
    x = np.random.default_rng(1).multivariate_normal(B, W @ W.T + SIGMA**2 * np.eye(3), 300)
    x = x.astype(np.float32)
    options = {"epochs": 12, "batch_size": 50, "progress": False, "prepare": False}
    fitted = hvax.fit(model, x[:250], validation=x[250:], **options)
    before, after = (
        hvax.evaluate(m, x, key=jax.random.key(0), num_samples=50, progress=False)
        for m in (model, fitted.model)
    )
    assert after.elbo > before.elbo and after.nll <= before.nll + 0.05
    code = hvax.encode(fitted.model, x, num_samples=3, progress=False)
    assert code.z.shape == (300, 3, 2) and hvax.sample(fitted.model, 4, progress=False).shape == (
        4,
        3,
    )
    for estimator in ("standard", "dreg"):
        value = hvax.loss(
            fitted.model, x, key=jax.random.key(2), num_samples=4, estimator=estimator
        )
        assert np.isfinite(value)
    hvax.save(fitted.model, tmp_path / "model")
    again = hvax.load(tmp_path / "model", like=model)
    assert eqx.tree_equal(again, fitted.model)
    ais = hvax.annealed_importance_sampling(
        again, x[:2], key=jax.random.key(3), num_temperatures=20, num_chains=4, progress=False
    )
    assert np.all(np.isfinite(ais.lower))
    hvax.write_report(again, x[:60], tmp_path / "page.html", num_samples=5, progress=False)
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_the_kl_of_a_laplacian_is_no_gaussians():
    """Of 2,000 draws a point: the closed form of a Gaussian with these moments is 0.07 nats less,
    thirty standard errors."""
    scores = hvax.evaluate(own(), X, key=jax.random.key(0), num_samples=2000, progress=False)
    encoder, _ = parts()
    z = stats.laplace(0, np.exp(-0.5)).rvs((200_000, 2), random_state=0)
    means = (X - B) @ np.asarray(encoder.matrix).T
    log_q = stats.laplace.logpdf(z, 0, np.exp(-0.5)).sum(axis=1)
    exact = np.mean([np.mean(log_q - stats.norm.logpdf(z + mean).sum(axis=1)) for mean in means])
    assert scores.kl == pytest.approx(exact, abs=0.03)
    variance = 2 * np.exp(-1.0)
    gaussian = np.mean(np.sum(0.5 * (means**2 + variance - 1) - 0.5 * np.log(variance), axis=1))
    assert abs(scores.kl - gaussian) > 0.05


def test_a_condition_reaches_every_part_and_is_not_scored(x64):
    """p(x | c) = N(x; b + c, W W' + s^2 I), so log p(x + c | c) is log p(x) without c."""

    def encode(x, c):
        return parts()[0](x - c)

    def decode(z, c):
        return parts()[1].network(z) + c

    decoder = hvax.Decoder(decode, hvax.FixedGaussian(SIGMA))
    model = hvax.HVAE(hvax.VAE(encode, decoder), Downhill(hvax.Learned(0.05, upper=0.2)))
    c = np.random.default_rng(2).normal(size=X.shape)
    batch = Batch(X + c, condition=c)
    bound = eqx.filter_jit(hvax.importance_weighted_bound)(
        model, batch, key=jax.random.key(0), num_samples=5000
    )
    assert float(bound) == pytest.approx(TRUTH.mean(), abs=0.02)
    with pytest.raises(ValueError, match="condition must have as many examples as x, 5, got"):
        hvax.elbo(model, Batch(X, condition=c[:3]), key=jax.random.key(0))


def test_what_is_no_model_is_refused():
    for function in (hvax.elbo, hvax.loss):
        with pytest.raises(Exception, match="AbstractLatentModel"):
            function(parts()[1], X, key=jax.random.key(0))
    assert isinstance(linear_gaussian(), hvax.AbstractLatentModel)


def far_and_labeled(n=200):
    """Heights in micrometers, of two kinds that differ by four standard deviations."""
    draw = np.random.default_rng(3).normal
    label = (np.arange(n) % 2).astype(np.float32)
    x = 1.7e6 + 9e4 * (draw(size=(n, 3)) + 4 * label[:, None])
    return x.astype(np.float32), label


def conditional_vae():
    keys = jax.random.split(jax.random.key(0), 4)
    mean, log_sigma = (eqx.nn.Linear(4, 2, key=key) for key in keys[:2])
    middle, spread = (eqx.nn.Linear(3, 3, key=key) for key in keys[2:])

    def encode(x, c):
        inputs = jnp.append(x, c)
        return hvax.DiagonalGaussian(mean(inputs), log_sigma(inputs))

    def decode(z, c):
        inputs = jnp.append(z, c)
        return hvax.DiagonalGaussian(middle(inputs), spread(inputs))

    return hvax.VAE(encode, hvax.Decoder(decode, hvax.LearnedGaussian()))


@pytest.mark.parametrize("flow", [False, True])
def test_a_condition_goes_with_data_far_from_one(flow):
    """`fit` puts the networks into the data's units; seen to fail, as those took no condition."""
    x, label = far_and_labeled()
    model = (
        hvax.HVAE(conditional_vae(), hvax.HamiltonianFlow.dais(1)) if flow else conditional_vae()
    )
    data = Batch(x, condition=label)
    options = {"epochs": 3, "batch_size": 50, "progress": False}
    fitted = hvax.fit(model, data, validation=data, **options)
    assert hvax.elbo(fitted.model, data, key=jax.random.key(1)) > -60  # unprepared: -1e11
    scores = hvax.evaluate(fitted.model, data, key=jax.random.key(2), num_samples=5, progress=False)
    assert np.isfinite(scores.nll)
    made = hvax.reconstruct(fitted.model, data, progress=False)
    assert made.shape == x.shape and 1e6 < made.mean() < 3e6


@pytest.mark.parametrize("part", ["model", "likelihood"])
@pytest.mark.parametrize("call", ["elbo", "fit", "evaluate", "encode"])
def test_a_mask_is_refused_where_no_part_takes_one(call, part, tmp_path):
    """In words, and not as an argument that nobody has given."""
    batch = Batch(X.astype(np.float32), mask=X > 0)
    calls = {
        "elbo": lambda m: hvax.elbo(m, batch, key=jax.random.key(0)),
        "fit": lambda m: hvax.fit(
            m, batch, epochs=1, batch_size=5, progress=False, run_dir=tmp_path / "run"
        ),
        "evaluate": lambda m: hvax.evaluate(m, batch, key=jax.random.key(0), progress=False),
        "encode": lambda m: hvax.encode(m, batch, progress=False),
    }
    vae = linear_gaussian()
    if part == "model":
        model = own()
        said = "the batch must have no mask for an Own"
    else:
        model = hvax.VAE(vae.encoder, hvax.Decoder(vae.decoder.network, Unmasked()))
        said = "no missing values for an Unmasked, whose log_prob and check take no mask"
    with pytest.raises(ValueError, match=said):
        calls[call](model)
    assert not (tmp_path / "run").exists()
