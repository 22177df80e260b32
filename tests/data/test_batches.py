"""The order of training is a function of seed and epoch; evaluation sees each example once."""

import numpy as np
import pytest

from hvax.data.batches import epoch_batches, padded_batches, random_order


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (12, 4), (5, 5), (7, 1), (1, 1)])
def test_an_epoch_is_a_shuffle_without_the_rest(n, batch_size):
    batches = epoch_batches(n, batch_size, seed=0, epoch=1)
    assert batches.shape == (n // batch_size, batch_size) and batches.dtype == np.int32
    assert len(np.unique(batches)) == batches.size
    assert batches.min() >= 0 and batches.max() < n


def test_an_epoch_is_a_pure_function_of_seed_and_epoch():
    def order(seed, epoch):
        return epoch_batches(60, 6, seed=seed, epoch=epoch)

    late = order(3, 7)  # before any other epoch was asked for
    orders = [order(seed, epoch) for seed in (0, 3) for epoch in (1, 2, 7)]
    np.testing.assert_array_equal(late, orders[-1])
    assert len({o.tobytes() for o in orders}) == len(orders)


def test_the_order_is_the_same_on_every_machine_and_version():
    """The numbers of NumPy's PCG64, whose raw stream is promised; a change would break resuming."""
    assert random_order(8, 0).tolist() == ORDER
    np.testing.assert_array_equal(epoch_batches(6, 2, seed=1, epoch=2), BATCHES)


ORDER = [3, 2, 1, 6, 0, 7, 4, 5]
BATCHES = [[5, 3], [2, 1], [0, 4]]


def test_every_place_is_reached_equally_often():
    """Example 0's place over 2000 epochs; a shuffle that keeps it first gives z = 134."""
    n, epochs = 10, 2000
    places = [int(np.argmin(random_order(n, 0, epoch))) for epoch in range(epochs)]
    z = (np.bincount(places, minlength=n) / epochs - 0.1) / np.sqrt(0.1 * 0.9 / epochs)
    assert np.all(np.abs(z) < 4.5)


@pytest.mark.parametrize("seed", [(-1,), (0, -2)])
def test_a_negative_seed_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be >= 0"):
        random_order(5, *seed)


@pytest.mark.parametrize("seed", [0.5, "1", None])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(TypeError):
        random_order(5, seed)


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (12, 4), (3, 8), (1, 1)])
def test_padded_batches_hold_each_index_once(n, batch_size):
    batches = list(padded_batches(n, batch_size))
    assert all(b.indices.shape == b.mask.shape == (batch_size,) for b in batches)
    np.testing.assert_array_equal(
        np.concatenate([b.indices[b.mask] for b in batches]), np.arange(n)
    )
    assert all(np.all(b.indices[~b.mask] == 0) for b in batches)
    assert all(b.mask.all() for b in batches[:-1])
