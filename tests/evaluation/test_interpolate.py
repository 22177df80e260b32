"""Ways between latent points."""

import jax.numpy as jnp
import numpy as np
import pytest

import hvax


def test_it_ends_where_it_should_and_keeps_its_length():
    start, end = np.array([2.0, 0.0]), np.array([0.0, 2.0])
    for path in ("linear", "spherical"):
        way = hvax.interpolate(start, end, 9, path=path)
        np.testing.assert_allclose(way[0], start, atol=1e-12)
        np.testing.assert_allclose(way[-1], end, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 2.0, rtol=1e-12)
    np.testing.assert_allclose(np.diff(np.arctan2(way[:, 1], way[:, 0])), np.pi / 16, rtol=1e-10)


def test_lengths_change_at_an_even_rate():
    way = hvax.interpolate(np.array([1.0, 0.0]), np.array([0.0, 3.0]), 5)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), [1, 1.5, 2, 2.5, 3], rtol=1e-12)


@pytest.mark.parametrize("start", [np.ones(3), -np.ones(3), np.zeros(3)])
def test_between_parallel_points_it_is_straight(start):
    """From the origin it was NaN."""
    way = hvax.interpolate(start, 3 * np.ones(3), 3)
    np.testing.assert_allclose(way[1], (start + 3) / 2, rtol=1e-12)
    np.testing.assert_array_equal(hvax.interpolate(np.zeros(3), np.zeros(3), 3), np.zeros((3, 3)))


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_a_batch_is_each_of_its_pairs(path):
    chance = np.random.default_rng(0)
    start, end = chance.normal(size=(4, 3)), chance.normal(size=(4, 3))
    end[1] = 2 * start[1]
    ways = hvax.interpolate(start, end, 6, path=path)
    assert ways.shape == (4, 6, 3)
    for i in range(4):
        one = hvax.interpolate(start[i], end[i], 6, path=path)
        np.testing.assert_allclose(ways[i], one, rtol=1e-12, atol=1e-15)


def test_it_has_the_precision_of_its_ends():
    for kind in (np.float32, np.float64):
        ends = np.ones(2, kind), np.array([1, -1], kind)
        assert hvax.interpolate(*ends, 4).dtype == kind
    assert hvax.interpolate(jnp.ones(2), jnp.zeros(2), 4).dtype == jnp.zeros(()).dtype
    whole = hvax.interpolate(np.array([0, 0]), np.array([2, 4]), 3, path="linear")
    np.testing.assert_array_equal(whole[1], [1, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(2), np.ones(2), 1), "num_points must be >= 2, got 1"),
        ((np.ones(2), np.ones(3), 4), r"end must have the shape of start, \(2,\), got \(3,\)"),
        ((np.ones((2, 2, 2)), np.ones((2, 2, 2)), 4), r"start must have shape \(d,\) or \(n, d\)"),
        ((np.ones(2), np.ones(0), 4), r"end must have shape \(d,\) or \(n, d\), got \(0,\)"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        hvax.interpolate(*arguments)
