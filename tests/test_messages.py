"""Errors that a beginner causes: they say what was meant, before anything is compiled."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hvax
from hvax.cli import main
from hvax.models.latent_model import check_model
from hvax.wording import counted, kind_of, with_article

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)


def vae(encoder=None):
    own, decoder = hvax.mlp(
        (3,), 2, hidden=(4,), likelihood=hvax.LearnedGaussian(), key=jax.random.key(0)
    )
    return hvax.VAE(own if encoder is None else encoder, decoder)


def refused(kind, call):
    with pytest.raises(kind) as told:
        call()
    return str(told.value)


class Given(eqx.Module):
    """An encoder that takes a condition."""

    network: eqx.nn.Linear

    def __call__(self, x, condition):
        mean, log_sigma = jnp.split(self.network(jnp.append(x, condition)), 2)
        return hvax.DiagonalGaussian(mean, log_sigma)


@pytest.mark.parametrize("prepared", [False, True])
def test_a_condition_that_networks_do_not_take_is_refused(prepared):
    """By every function, in an HVAE too, and inside the wrappers that `prepare` adds."""
    given = hvax.Batch(X, condition=np.ones(60, np.float32))
    far = X * np.float32(1e3)
    plain = hvax.prepare(vae(), far) if prepared else vae()
    for model in (plain, hvax.HVAE(plain)):
        for call in (
            lambda model=model: hvax.fit(model, given, epochs=1, progress=False),
            lambda model=model: hvax.elbo(model, given, key=jax.random.key(0)),
            lambda model=model: hvax.evaluate(model, given, key=jax.random.key(0), num_samples=2),
        ):
            told = refused(ValueError, call)
            assert "no condition" in told and "encoder takes none, got encoder JointGaus" in told
    half = vae(Given(eqx.nn.Linear(4, 4, key=jax.random.key(0))))
    told = refused(ValueError, lambda: hvax.elbo(half, given, key=jax.random.key(0)))
    assert "whose decoder takes none" in told and "decoder(z, condition)" in told


def test_what_takes_no_condition_says_so(tmp_path):
    """Drawing and the report, of a model that cannot do without one."""

    def decoder(z, condition):
        return hvax.DiagonalGaussian(jnp.zeros(3) + condition, jnp.zeros(3) + z[0])

    encoder = Given(eqx.nn.Linear(4, 4, key=jax.random.key(0)))
    model = hvax.VAE(encoder, hvax.Decoder(decoder, hvax.LearnedGaussian()))
    for call in (
        lambda: hvax.sample(model, 2, latent_size=2),
        lambda: hvax.decode(model, np.zeros((4, 2), np.float32)),
    ):
        assert "decoder must need no condition, got decoder" in refused(ValueError, call)
    given = hvax.Batch(X, condition=np.ones(60, np.float32))
    page = tmp_path / "page.html"
    assert "no condition" in refused(ValueError, lambda: hvax.write_report(model, given, page))


def test_a_pair_is_no_pair_of_examples_and_labels():
    told = refused(TypeError, lambda: hvax.fit(vae(), (X, np.array(["a"] * 60)), epochs=1))
    assert "the target of data" in told and "the second of the pair" in told and "x alone" in told
    told = refused(ValueError, lambda: hvax.fit(vae(), hvax.Batch(X, condition=np.ones(59))))
    assert "data must have a condition for each example, got 59 for 60 examples" in told


def test_two_networks_are_no_model():
    pair = hvax.mlp((3,), 2, key=jax.random.key(0))
    told = refused(TypeError, lambda: check_model(pair))  # which `fit` calls first
    assert "hvax.VAE(*hvax.mlp(...))" in told


def test_a_run_is_told_from_its_model(tmp_path):
    hvax.save(vae(), tmp_path / "run" / "model")
    told = refused(FileNotFoundError, lambda: hvax.load(tmp_path / "run"))
    assert told.endswith(f"Load {tmp_path / 'run' / 'model'}.")
    assert "Load" not in refused(FileNotFoundError, lambda: hvax.load(tmp_path))


def test_a_missing_file_is_named():
    for name in ("none.csv", "none.npy"):
        told = refused(FileNotFoundError, lambda name=name: hvax.train(name, progress=False))
        assert f"{name} must be" in told and "got no file" in told and "Errno" not in told


def test_an_array_of_python_numbers_is_one_of_numbers():
    mixed = np.array([[1.5, 2], [None, 4]], dtype=object)
    assert hvax.evaluate(
        vae(), X.astype(object), key=jax.random.key(0), num_samples=2, progress=False
    ).elbo == (
        hvax.evaluate(
            vae(), X.astype(np.float64), key=jax.random.key(0), num_samples=2, progress=False
        ).elbo
    )
    found = hvax.data.examples.as_examples(mixed)
    assert found.holes and found.stored.dtype == np.float64
    whole = hvax.data.examples.as_examples(np.array([[1, 2], [3, 4]], dtype=object))
    assert whole.stored.dtype == np.int64
    told = refused(TypeError, lambda: hvax.fit(vae(), np.array([[1.0, "a", 2.0]], dtype=object)))
    assert "'a' at index (0, 1)" in told


def test_numbers_of_messages_have_no_noise_of_32_bits():
    assert refused(ValueError, lambda: hvax.HamiltonianFlow(2, -0.1)).endswith("got -0.1.")
    bits = hvax.VAE(*hvax.mlp((3,), 2, key=jax.random.key(0)))
    low = np.full((4, 3), -0.1, np.float32)
    assert "got -0.1 at index (0, 0)" in refused(ValueError, lambda: hvax.fit(bits, low))


def test_articles_and_plurals():
    names = {"int": "an int", "HVAE": "an HVAE", "VAE": "a VAE", "UHA": "a UHA"}
    assert {name: with_article(name) for name in names} == names
    assert kind_of(1) == "an int" and kind_of({}) == "a dict"
    assert counted(1, "epoch") == "1 epoch" and counted(2000, "epoch") == "2,000 epochs"


def test_a_misspelled_command_is_answered_with_the_right_one(capsys):
    assert main(["trian", "digits"]) == 2
    told = capsys.readouterr().err
    assert "must be one of train, evaluate" in told and "Did you mean `hvax train`?" in told
    assert main(["xyz"]) == 2 and "Did you mean" not in capsys.readouterr().err
