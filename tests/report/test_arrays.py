"""Arrays for pictures: principal axes, chosen points and features, images."""

import jax
import numpy as np
import pytest

from hvax.data.examples import Examples
from hvax.report import images
from hvax.report.chosen import one_of_each, spaced
from hvax.report.latent import embedded
from hvax.report.projection import Embedded, principal_axes, projected
from hvax.report.reconstructions import reconstructed
from models_for_tests import linear_gaussian, moving


def test_principal_axes_of_a_known_cloud():
    """A cloud with standard deviations 3, 2 and 1 along known directions, seen exactly."""
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    corners = np.array([[a, b, c] for a in (-3, 3) for b in (-2, 2) for c in (-1, 1)], float)
    axes, explained = principal_axes(corners @ rotation.T)
    np.testing.assert_allclose(explained, [9 / 14, 4 / 14], rtol=1e-12)
    for i in (0, 1):
        assert abs(axes[:, i] @ rotation[:, i]) == pytest.approx(1, rel=1e-12)
        assert axes[np.abs(axes[:, i]).argmax(), i] > 0
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)


def test_two_dimensions_are_shown_as_they_are():
    rng = np.random.default_rng(0)
    points = Embedded(rng.normal(size=(5, 2)), rng.normal(size=(5, 2)))
    found = projected(points)
    assert found.explained is None
    np.testing.assert_array_equal(found.mean, points.mean)
    np.testing.assert_array_equal(found.z, points.z)


def test_more_dimensions_are_projected_from_the_means():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(50, 6)) * np.array([1, 1, 5, 1, 3, 1]) + 7
    points = Embedded(mean, mean + 1.0)
    found = projected(points)
    assert found.mean.shape == found.z.shape == (50, 2)
    np.testing.assert_allclose(found.mean.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.z - found.mean, (found.z - found.mean)[:1].repeat(50, 0))
    variance = mean.var(axis=0).sum()
    shown = found.mean.var(axis=0) / variance
    np.testing.assert_allclose(shown, found.explained, rtol=1e-12)


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (7, 3), (1000, 12)])
def test_spaced(count, most):
    index = spaced(count, most)
    assert len(index) == min(count, most)
    assert index[0] == 0 and (len(index) == 1 or index[-1] == count - 1)
    assert np.all(np.diff(index) > 0)


def test_one_of_each_label():
    labels = np.array(["b", "b", "a", "c", "a"])
    np.testing.assert_array_equal(one_of_each(labels, 5, 3), [2, 0, 3])
    np.testing.assert_array_equal(one_of_each(labels[:2], 2, 3), [0, 1])
    two = one_of_each(np.repeat(["b", "a"], 50), 100, 3)
    assert two[:2].tolist() == [50, 0] and two[2] not in (0, 50), "another point where labels lack"
    np.testing.assert_array_equal(one_of_each(None, 5, 3), [0, 2, 4])


def test_shapes_of_what_a_model_yields():
    vae = linear_gaussian()
    test = Examples(np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32))
    index = np.array([0, 4, 8])
    for model in (vae, moving(vae)):
        back = reconstructed(model, test, index, key=jax.random.key(0))
        assert back.x.shape == back.mean.shape == (3, 3)
        np.testing.assert_array_equal(back.x, test[index])
        points = embedded(model, test, index, key=jax.random.key(0))
        assert points.mean.shape == points.z.shape == (3, 2)
        expected = [vae.posterior(jax.numpy.asarray(x)).mean for x in test[index]]
        np.testing.assert_allclose(points.mean, np.stack(expected), rtol=1e-5)


@pytest.mark.parametrize(
    ("x_shape", "expected"),
    [
        ((28, 28), True),
        ((8, 8, 1), True),
        ((8, 8, 3), True),
        ((3, 8, 8), True),
        ((1, 28, 28), True),
        ((784,), False),
        ((2, 100), False),
        ((100, 6), False),
        ((24, 6), True),
        ((128, 20), True),
        ((5, 5, 5), False),
        ((), False),
    ],
)
def test_what_counts_as_an_image(x_shape, expected):
    assert images.is_image(x_shape) is expected


def test_pixels_of_every_layout():
    rng = np.random.default_rng(0)
    last = rng.uniform(size=(2, 5, 4, 3))
    first = np.moveaxis(last, -1, 1)
    pixels = images.as_pixels(last, low=0.0, high=1.0, x_shape=(5, 4, 3))
    assert pixels.shape == (2, 5, 4, 4) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[..., :3], np.round(255 * last))
    np.testing.assert_array_equal(
        pixels, images.as_pixels(first, low=0.0, high=1.0, x_shape=(3, 5, 4))
    )
    gray = images.as_pixels(last[..., 0], low=0.0, high=1.0, x_shape=(5, 4))
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    assert np.all(gray[..., 3] == 255)
    odd = np.array([[[-1.0, 0.5], [2.0, np.nan]]])
    clipped = images.as_pixels(odd, low=0.0, high=1.0, x_shape=(2, 2))
    np.testing.assert_array_equal(clipped[0, :, :, 0], [[0, 128], [255, 0]])
    large = images.as_pixels(np.zeros((1, 300, 200)), low=0.0, high=1.0, x_shape=(300, 200))
    assert large.shape == (1, 100, 67, 4)


def test_levels():
    assert images.levels(np.array([0.2, 0.7])) == (0, 1)
    assert images.levels(np.array([-2.0, 0.7])) == (-2.0, 0.7)
    assert images.levels(np.array([0, 9])) == (0, 9)


def test_a_sheet_keeps_order_and_gaps():
    """Three images of 56 x 56, one level each, two to a row."""
    pixels = np.full((3, 56, 56, 4), 255, np.uint8)
    pixels[..., :3] = np.array([10, 20, 30], np.uint8)[:, None, None, None]
    whole = images.sheet(pixels, 2)
    assert whole.shape == (115, 115, 4)  # a gap of 3
    assert (whole[0, 0, 0], whole[0, 59, 0], whole[59, 0, 0]) == (10, 20, 30)
    assert whole[57, 0, 3] == whole[0, 57, 3] == whole[59, 59, 3] == 0
    assert images.sheet(pixels[:, :8, :8], 3).shape == (56, 3 * 56 + 2 * 3, 4)
