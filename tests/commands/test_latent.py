"""`hvax encode`, `reconstruct` and `sample`: their files hold what the library computes."""

import sys

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

import hvax
from hvax.data import load_source, split
from hvax.evaluation.latent import Encoding, decode, encode, reconstruct, sample
from hvax.report.images import image_grid
from runs_for_tests import SMALL, bits, digits_test, load_npz, untrained


@pytest.mark.parametrize("weights", [None, 3])
def test_encode_writes_the_librarys_embeddings(weights, ran):
    option = "" if weights is None else f"--weights {weights}"
    out = ran(f"encode run {option} --seed 4 --no-progress")  # to embeddings.npz
    test, labels = digits_test()
    expected = encode(
        hvax.load("run/model"),
        test,
        key=jax.random.key(4),
        num_samples=weights or 1,
        progress=False,
    )._asdict()
    if weights is None:
        del expected["log_weight"]
        expected["z"] = expected["z"][:, 0]
    found = load_npz("embeddings.npz")
    assert list(found) == [*expected, "row", "labels"]
    np.testing.assert_array_equal(found["row"], split(load_source("digits")).test)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.float32
    shapes = {"mean": (180, 2), "sigma": (180, 2), "labels": (180,)}
    shapes |= {"z": (180, 2)} if weights is None else {"z": (180, 3, 2), "log_weight": (180, 3)}
    assert {name: a.shape for name, a in found.items() if name != "row"} == shapes
    assert out.startswith("embeddings.npz: mean (180, 2), sigma (180, 2), z (180, ")
    np.testing.assert_array_equal(found["labels"], labels)
    assert np.all(found["sigma"] > 0)


def test_encode_of_a_file_larger_than_a_batch(ran):
    """None of 600 rows is lost, doubled or swapped."""
    x = bits(600).astype(np.uint8)
    np.save("bits.npy", 255 * x)
    ran("encode run bits.npy --out z.npz --weights 3 --no-progress")
    found = load_npz("z.npz")
    assert list(found) == ["mean", "sigma", "z", "log_weight", "row"]  # the file has no labels
    np.testing.assert_array_equal(found["row"], np.arange(600))
    own = hvax.load("run/model")
    for order in (slice(None), slice(None, None, -1)):
        expected = encode(own, x[order], key=jax.random.key(0), num_samples=3, progress=False)
        np.testing.assert_allclose(found["mean"], expected.mean[order], atol=1e-5)
        if order.step is None:  # the noise is that of a row's place
            np.testing.assert_array_equal(found["z"], expected.z)
            np.testing.assert_array_equal(found["log_weight"], expected.log_weight)
    assert len(np.unique(found["z"].reshape(1800, 2), axis=0)) == 1800


def test_a_run_in_float64_writes_float64(ran):
    np.save("bits.npy", bits(20))
    untrained(f"bits.npy --likelihood bernoulli --x64 {SMALL}")
    ran("encode other --no-progress --out z.npz")
    found = load_npz("z.npz")
    assert {a.dtype for name, a in found.items() if name != "row"} == {np.dtype(np.float64)}


# hvax reconstruct


def test_reconstruct_writes_the_librarys_means(ran):
    out = ran("reconstruct run --seed 2 --no-progress")
    assert out == "reconstructions.npy: (180, 8, 8)\n"
    found = np.load("reconstructions.npy")
    expected = reconstruct(
        hvax.load("run/model"), digits_test()[0], key=jax.random.key(2), progress=False
    )
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32 and 0 < found.min() < found.max() < 1


def test_reconstruct_another_file(ran):
    np.save("bits.npy", bits(30))
    ran("reconstruct run bits.npy --out r.npy --no-progress")
    expected = reconstruct(hvax.load("run/model"), bits(30), key=jax.random.key(0), progress=False)
    np.testing.assert_array_equal(np.load("r.npy"), expected)


def check_grid(path: str, images: np.ndarray) -> None:
    """A .png that shows these images, each pixel of them enlarged."""
    shown = matplotlib.image.imread(path)[..., 0]
    grid = image_grid(images)
    zoom = shown.shape[0] // grid.shape[0]
    assert zoom > 1 and shown.std() > 0.05
    for corner in (0, zoom - 1):
        np.testing.assert_allclose(shown[corner::zoom, corner::zoom], grid, atol=2 / 255)


def test_reconstruct_draws_inputs_beside_what_came_of_them(ran):
    assert ran("reconstruct run --out pairs.png --no-progress") == "pairs.png: (64, 8, 8)\n"
    ran("reconstruct run --out all.npy --no-progress")
    shown = digits_test()[0][:32], np.load("all.npy")[:32]
    check_grid("pairs.png", np.stack(shown, axis=1).reshape(64, 8, 8))


def test_pictures_of_classes_show_the_most_probable(ran):
    classes = np.random.default_rng(0).integers(0, 5, (40, 8, 8))
    np.save("classes.npy", classes)
    untrained(f"classes.npy --likelihood categorical {SMALL}")
    ran("reconstruct other classes.npy --out probabilities.npy --no-progress")
    ran("reconstruct other classes.npy --out pairs.png --no-progress")
    ran("sample other -n 40 --out draws.npy")
    probabilities, draws = np.load("probabilities.npy"), np.load("draws.npy")
    assert probabilities.shape == (40, 8, 8, 5)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
    pairs = np.stack([classes, probabilities.argmax(axis=-1)], axis=1)[:32]
    check_grid("pairs.png", pairs.reshape(64, 8, 8))
    assert draws.shape == (40, 8, 8) and set(np.unique(draws)) == set(range(5))


# hvax sample


def test_sample_writes_the_librarys_draws(ran):
    assert ran("sample run -n 5 --seed 6") == "samples.npy: (5, 8, 8)\n"
    ran("sample run -n 5 --seed 6 --mean --out mean.npy")
    draws, mean = np.load("samples.npy"), np.load("mean.npy")
    own = hvax.load("run/model")
    for found, wants_mean in ((draws, False), (mean, True)):
        key = jax.random.split(jax.random.key(6))[1]
        expected = sample(own, 5, key=key, mean=wants_mean, progress=False)
        np.testing.assert_array_equal(found, expected)
    assert set(np.unique(draws)) == {0, 1}
    assert 0 < mean.min() < mean.max() < 1


def test_sample_draws_a_picture_of_the_first_64(ran):
    assert ran("sample run -n 70 --mean --out s.png") == "s.png: (64, 8, 8)\n"
    ran("sample run -n 70 --mean --out s.npy")
    check_grid("s.png", np.load("s.npy")[:64])


@pytest.mark.parametrize("command", ["encode", "reconstruct", "sample", "sample --mixture 2"])
def test_a_seed_gives_the_same_file_and_another_another(command, ran, here):
    name, *options = command.split()
    suffix = "npz" if name == "encode" else "npy"
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        ran(f"{name} run {' '.join(options)} --no-progress --seed {seed} --out {out}.{suffix}")
    first, second, other = ((here / f"{out}.{suffix}").read_bytes() for out in "abc")
    assert first == second != other


@pytest.fixture
def latents(monkeypatch):
    """The latent points that are decoded."""
    seen = []

    def spy(model, z, **options):
        seen.append(np.asarray(z))
        return decode(model, z, **options)

    monkeypatch.setattr("hvax.commands.latent.decode", spy)
    return seen


@pytest.mark.parametrize("path", ["spherical", "linear"])
def test_sample_between_two_test_examples(path, ran, latents):
    out = ran(f"sample run --between 7 3 -n 5 --path {path} --mean --seed 2")
    assert out == "samples.npy: (5, 8, 8)\n"
    (z,) = latents
    key = jax.random.split(jax.random.key(2))[0]
    own, ends = hvax.load("run/model"), digits_test()[0][np.array([7, 3])]
    expected = encode(own, ends, key=key, progress=False).z[:, 0]
    np.testing.assert_allclose(z[[0, -1]], expected, atol=1e-5)
    straight = np.linspace(0, 1, 5)[:, None] * (expected[1] - expected[0]) + expected[0]
    assert np.allclose(z, straight, atol=1e-5) == (path == "linear")
    mean = decode(own, jnp.asarray(z), progress=False)
    np.testing.assert_array_equal(np.load("samples.npy"), mean)


def test_sample_from_a_mixture_goes_where_the_training_data_lie(ran, latents, monkeypatch):
    """Two clusters of embeddings: each has its half of the draws, in no order."""

    def clusters(model, rows, *, key, progress):
        assert len(rows) == 1437 and set(np.unique(rows[:])) == {0, 1}
        at = np.repeat([-50.0, 50.0], [718, 719])[:, None] * np.array([1.0, 2.0])
        z = at + jax.random.normal(key, at.shape)
        return Encoding(at, at, np.asarray(z)[:, None], at)

    monkeypatch.setattr("hvax.commands.latent.encode", clusters)
    ran("sample run --mixture 2 -n 200")
    (z,) = latents
    assert z.shape == (200, 2)
    assert np.all(np.min(np.linalg.norm(z[:, None] - [[-50, -100], [50, 100]], axis=2), 1) < 6)
    right = z[:, 0] > 0
    assert 60 < right.sum() < 140 and 60 < np.sum(right[1:] != right[:-1]) < 140


def test_mixture_without_scikit_learn_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    refused("sample run --mixture 2", r"install hvax\[mixture\]")


@pytest.mark.parametrize(
    "command", ["reconstruct other", "sample other", "sample other --mixture 2"]
)
def test_pictures_of_vectors_are_refused_before_any_work(command, here, refused):
    np.save("vectors.npy", np.zeros((20, 4), np.float32))
    untrained(f"vectors.npy {SMALL}")
    refused(f"{command} --out new.png", r"a .png needs images.* write a .npy instead")
