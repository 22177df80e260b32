"""The Hamiltonian VAE, one example at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hvax.evaluation.latent import reconstruct
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.tempering import NullTempering, QuadraticTempering
from hvax.models.decoder import Decoder
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.hamiltonian_terms import log_p_bar, log_p_terms, log_q_bar, log_q_terms
from hvax.models.heads import SplitGaussian
from hvax.models.hvae import HVAE
from hvax.models.likelihood import AbstractLikelihood
from hvax.models.network import MLP, mlp
from hvax.models.vae import VAE

pytestmark = pytest.mark.usefixtures("x64")

X = np.array([1.0, 0.0, 1.0])
FLOWS = {
    "reference": HamiltonianFlow.reference,
    "no steps": lambda: HamiltonianFlow(0, 0.1, QuadraticTempering(0.4)),
    "no tempering": lambda: HamiltonianFlow(2, np.array([0.1, 0.2]), NullTempering(0.3)),
}


def vae(x_shape=(3,), latent_size=2, *, target_shape=None, **options) -> VAE:
    """A small VAE; with `target_shape` its decoder is over data of that shape."""
    encoder, decoder = mlp(x_shape, latent_size, hidden=(4,), key=jax.random.key(0), **options)
    if target_shape is not None:
        _, decoder = mlp(target_shape, latent_size, hidden=(4,), key=jax.random.key(1), **options)
    return VAE(encoder, decoder)


@eqx.filter_jit
def outputs(model, x, target=None, key=None):
    key = jax.random.key(7) if key is None else key
    return model(jnp.asarray(x), target, key=key, latent=True)


@pytest.mark.parametrize("flow", FLOWS)
def test_outputs_are_what_their_names_say(flow):
    model = HVAE(vae(), FLOWS[flow]())
    out = outputs(model, X)
    path, q = out.trajectory, out.posterior
    beta_0, beta_K = (np.asarray(beta) for beta in (path.beta[0], path.beta[-1]))
    terms = [
        stats.bernoulli.logpmf(X, 1 / (1 + np.exp(-out.output))).sum(),
        stats.norm.logpdf(path.z_final).sum(),
        stats.norm.logpdf(path.rho_final, 0, beta_K**-0.5).sum(),
        stats.norm.logpdf(path.z_init, q.mean, q.sigma).sum(),
        stats.norm.logpdf(path.rho_init, 0, beta_0**-0.5).sum(),
        -0.5 * 2 * np.log(beta_0 / beta_K),
    ]
    for number, exact in [
        (q.mean, model.vae.posterior(jnp.asarray(X)).mean),
        (out.output, model.vae.decoder(path.z_final)),
        (log_p_terms(out), terms[:3]),
        (log_q_terms(out), terms[3:]),
        (log_p_bar(out), sum(terms[:3])),
        (log_q_bar(out), sum(terms[3:])),
        (out.log_weight, sum(terms[:3]) - sum(terms[3:])),
    ]:
        # Sums of a few numbers of order one: 1e-15.
        np.testing.assert_allclose(number, exact, rtol=0, atol=5e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_has_the_models_dtype(dtype):
    with jax.enable_x64(dtype == "float64"):
        out = jax.eval_shape(lambda: outputs(HVAE(vae()), X))
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {np.dtype(dtype)}


def test_jit_and_vmap_change_nothing_but_rounding():
    with jax.enable_x64(False):
        model, x = HVAE(vae(latent_size=1)), jnp.asarray(X)
        keys = jax.random.split(jax.random.key(7), 1)
        eager = model(x, key=jax.random.split(jax.random.key(7), 1)[0], latent=True)
        mapped = jax.vmap(lambda key: outputs(model, x, key=key))(keys)
    for one, batched in zip(jax.tree.leaves(eager), jax.tree.leaves(mapped), strict=True):
        assert batched.shape == (1, *one.shape)
        # One rounding of the largest number, 4, is 4 eps; seen: 0.5 eps.
        np.testing.assert_allclose(one, batched[0], rtol=0, atol=100 * np.finfo(np.float32).eps)


def test_the_ways_to_call_share_their_draw():
    model, x = HVAE(vae(), FLOWS["no steps"]()), jnp.asarray(X)
    out = outputs(model, X)
    output = model(x, key=jax.random.key(7))
    log_weight = model.log_weight(x, key=jax.random.key(7))
    drawn = model.draw(model.vae.posterior(x), x, key=jax.random.key(7))
    np.testing.assert_allclose(output, out.output, rtol=0, atol=1e-14)
    np.testing.assert_allclose([log_weight, drawn.log_weight], out.log_weight, rtol=0, atol=1e-13)


def test_no_steps_is_the_plain_vae_on_the_same_noise():
    model = vae()
    ours = outputs(HVAE(model, FLOWS["no steps"]()), X).log_weight
    np.testing.assert_allclose(ours, outputs(model, X).log_weight, rtol=0, atol=1e-14)


class Logistic(AbstractLikelihood):
    """A user's own, logistic: 1 / (2 cosh(x - m)^2)."""

    def log_prob(self, output, x):
        return jnp.sum(-2 * jnp.log(jnp.cosh(x - output)) - jnp.log(2.0))

    def mean(self, output):
        return output

    def sample(self, output, *, key):
        return output + jnp.arctanh(jax.random.uniform(key, output.shape, minval=-1))

    def check(self, x):
        pass


def test_a_users_likelihood():
    model = HVAE(vae(likelihood=Logistic()))
    out = outputs(model, X)
    exact = model.vae.decoder.log_likelihood(jnp.asarray(X), out.output)
    np.testing.assert_allclose(out.log_likelihood, exact, rtol=1e-5)


def test_shapes():
    model, x = HVAE(vae((2, 3), 4), HamiltonianFlow()), jnp.zeros((2, 3), jnp.uint8)
    out = jax.eval_shape(lambda: outputs(model, x))
    path = out.trajectory
    positions = [path.z_init, path.z_final, path.rho_init, path.rho_final, path.gamma]
    assert {position.shape for position in positions} == {(4,)}
    assert (path.beta.shape, path.energy_errors.shape) == ((4,), (3,))
    assert out.output.shape == (2, 3) and out.posterior.mean.shape == (4,)
    assert out.log_likelihood.shape == ()


# x and target


def test_the_encoder_sees_x_and_the_flow_the_target():
    model, target = HVAE(vae(target_shape=(2, 2))), jnp.ones((2, 2))
    out = outputs(model, X, target)
    np.testing.assert_array_equal(out.posterior.mean, outputs(vae(), X).posterior.mean)
    # The flow's own evaluation of U at z_K yields this number.
    exact = stats.bernoulli.logpmf(1, 1 / (1 + np.exp(-np.asarray(out.output)))).sum()
    np.testing.assert_allclose(out.log_likelihood, exact, rtol=1e-13)


@pytest.mark.parametrize("latent", [False, True])
def test_without_a_target_of_the_right_shape(latent):
    """The flow needs a target; a plain VAE decodes without one."""
    model, x = HVAE(vae(target_shape=(2, 2))), jnp.asarray(X)
    for each in (model, model.vae):
        with pytest.raises(ValueError, match=r"or decode without scoring: model\.dec"):
            each(x, key=jax.random.key(0), latent=latent)
    assert model.decoder(model.posterior(x).mean).shape == (2, 2)
    assert reconstruct(model.vae, x[None], progress=False).shape == (1, 2, 2)


def test_a_target_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"x must have shape \(3,\), got \(4,\)") as it:
        HVAE(vae())(jnp.asarray(X), jnp.zeros(4), key=jax.random.key(0))
    assert "give it" not in str(it.value)


def test_reconstruct_gives_pixels():
    model, x = HVAE(vae(), FLOWS["no steps"]()), jnp.asarray(X)
    key = jax.random.fold_in(jax.random.key(7), 0)  # of the first example
    exact = jax.nn.sigmoid(outputs(model, X, key=key).output)
    pixels = reconstruct(model, x[None], key=jax.random.key(7), progress=False)[0]
    np.testing.assert_allclose(pixels, exact, rtol=0, atol=1e-14)


def test_reconstruct_hands_the_target_to_the_flow():
    model = HVAE(vae(target_shape=(2, 2)))
    pair = np.zeros((1, 3)), np.zeros((1, 2, 2))
    assert reconstruct(model, pair, progress=False).shape == (1, 2, 2)
    with pytest.raises(ValueError, match=r"x must have shape \(2, 2\)"):
        reconstruct(model, np.zeros((1, 3)), progress=False)


# A batch where one example belongs


def users_encoder():
    network = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(3))
    return SplitGaussian(network, network)


def summing_encoder(x):
    return DiagonalGaussian(jnp.full(2, jnp.sum(x)), jnp.zeros(2))


@pytest.mark.parametrize("batch", [1, 3, 5])
@pytest.mark.parametrize("encoder", [None, users_encoder, lambda: summing_encoder])
def test_a_batch_is_refused_with_the_two_lines_to_write(encoder, batch):
    ours = vae()
    model = HVAE(ours if encoder is None else VAE(encoder(), ours.decoder))
    with pytest.raises(ValueError) as refusal:
        model.log_weight(jnp.ones((batch, 3)), key=jax.random.key(0))
    assert "keys = jax.random.split(key, len(x))\n" in str(refusal.value)
    assert "jax.vmap(lambda x, key: f(x, key=key))(x, keys)" in str(refusal.value)


# A potential of the user's


def bowl(vae, x):
    """Not the model's: it pulls to one, and calls no decoder."""
    return lambda z: (2 * jnp.sum((z - 1) ** 2), None)


def same(vae, x):
    return vae.potential(x)


def test_a_users_potential_moves_and_the_model_scores():
    flow = HamiltonianFlow(2, 0.2)
    model = HVAE(vae(), flow, bowl)
    out = outputs(model, X)
    start = {"z": out.trajectory.z_init, "gamma": out.trajectory.gamma}
    z_final = flow.transport(bowl(None, None), **start).z
    np.testing.assert_allclose(out.trajectory.z_final, z_final, rtol=0, atol=1e-14)
    joint = model.vae.log_joint(jnp.asarray(X), out.trajectory.z_final)
    np.testing.assert_allclose(out.output, joint.output, rtol=0, atol=1e-14)
    np.testing.assert_allclose(out.log_likelihood, joint.log_likelihood, rtol=0, atol=1e-14)
    np.testing.assert_allclose(out.log_prior, joint.log_prior, rtol=0, atol=1e-14)


def test_the_models_own_potential_given_changes_nothing():
    ours, theirs = outputs(HVAE(vae()), X), outputs(HVAE(vae(), potential=same), X)
    np.testing.assert_allclose(theirs.log_weight, ours.log_weight, rtol=0, atol=1e-14)


class Counted(eqx.Module):
    """A network that counts how often it is evaluated when the program runs."""

    network: MLP
    calls: list = eqx.field(static=True)

    def __call__(self, z):
        jax.debug.callback(lambda: self.calls.append(1))
        return self.network(z)


@pytest.mark.parametrize(
    ("num_steps", "potential", "evaluations"),
    [
        (3, None, 4),  # K + 1, the last of which is the model at z_K
        (0, None, 1),
        (3, bowl, 1),  # the model at z_K alone
        (3, same, 5),  # the potential's K + 1, and the model at z_K
    ],
)
def test_how_often_the_decoder_runs(num_steps, potential, evaluations):
    ours, calls = vae(), []
    decoder = Decoder(Counted(ours.decoder.network, calls), ours.decoder.likelihood)
    model = HVAE(VAE(ours.encoder, decoder), HamiltonianFlow(num_steps), potential)
    run = jax.jit(lambda x: model(x, key=jax.random.key(0), latent=True).log_weight)
    run(jnp.asarray(X)).block_until_ready()
    jax.effects_barrier()
    assert len(calls) == evaluations


def test_nan_in_gives_nan_out():
    assert jnp.isnan(outputs(HVAE(vae()), np.array([1.0, np.nan, 0.0])).log_weight)
