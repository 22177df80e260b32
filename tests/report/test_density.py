"""Densities over two dimensions: smoothed draws, levels and boxes."""

import numpy as np

from hvax.report.density import box, mass_levels, smoothed


def test_levels_hold_their_mass():
    """Of a standard normal in two dimensions, the density is above exp(-r^2 / 2) within r, which
    holds 1 - exp(-r^2 / 2): the level below the top is log(1 - mass)."""
    axis = np.linspace(-6, 6, 400)
    log_density = -0.5 * (axis[:, None] ** 2 + axis[None, :] ** 2)
    masses = (0.5, 0.9, 0.99)
    np.testing.assert_allclose(
        mass_levels(log_density, masses), np.log1p(-np.array(masses)), atol=0.01
    )


def test_smoothed_draws_have_the_density_of_their_gaussian():
    """With a correlation of 0.95 and units of 1e-3: 5,000 draws, smoothed, have the Gaussian's own
    covariance times 1 + n^(-1/3) to 5%; a round kernel widens the narrow axis threefold."""
    covariance = np.array([[1.0, 0.95], [0.95, 1.0]])
    draws = np.random.default_rng(0).multivariate_normal([2.0, -1.0], covariance, 5000) * 1e-3
    found = smoothed(draws, *box(draws))
    weight = np.exp(found.log_density - found.log_density.max())
    weight /= weight.sum()
    z = np.stack(np.meshgrid(found.first, found.second), axis=-1) * 1e3
    mean = np.einsum("ij,ijk->k", weight, z)
    np.testing.assert_allclose(mean, [2.0, -1.0], atol=0.05)
    second = np.einsum("ij,ijk,ijl->kl", weight, z - mean, z - mean)
    expected = covariance * (1 + 5000 ** (-1 / 3))
    narrow = np.array([1, -1]) / np.sqrt(2)
    for direction in (narrow, np.abs(narrow)):
        ratio = (direction @ second @ direction) / (direction @ expected @ direction)
        assert abs(ratio - 1) < 0.05


def test_draws_that_do_not_vary_are_drawn_all_the_same():
    for draws in (np.ones((50, 2)), np.stack([np.arange(50.0), np.zeros(50)], axis=1)):
        found = smoothed(draws, *box(draws))
        assert np.all(np.isfinite(found.log_density))


def test_a_box_holds_the_first_cloud_and_no_outliers_of_others():
    truth = np.random.default_rng(0).normal(size=(200, 2))
    others = np.append(truth, [[1e6, -1e6]], axis=0)
    low, high = box(truth, others)
    assert np.all(low < truth.min(axis=0)) and np.all(high > truth.max(axis=0))
    assert np.all(high - low < 12)
