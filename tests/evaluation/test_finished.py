"""Finished batches of annealed importance sampling are taken again, and crafted ones are not."""

import copy

import numpy as np
import pytest

from hvax.evaluation.finished import Bounds, Finished
from hvax.exceptions import DamagedCheckpoint
from hvax.storage.json_files import verify_checksum, with_checksum

WORK = {"shape": [5, 3], "batch": 2, "latents": None, "key": [0, 1]}


def bounds(points, upper=None):
    ones = np.ones(points)
    return Bounds(-3 * ones, upper, 0.5 * ones, np.zeros(points, np.int64))


def filled(folder):
    finished = Finished(folder, WORK)
    for begin, points in ((0, 2), (2, 2), (4, 1)):
        finished.add(begin, bounds(points))
    (file,) = folder.glob("ais-*.json")
    return file


def test_batches_are_found_again(tmp_path):
    filled(tmp_path)
    again = Finished(tmp_path, WORK)
    np.testing.assert_array_equal(again.get(4).lower, [-3.0])
    assert again.get(1) is None


CRAFTED = {
    "too long": lambda batch: batch.update(lower=[1.0, 2.0, 3.0]),
    "of two lengths": lambda batch: batch.update(lost=[0]),
    "nested": lambda batch: batch.update(lower=[[1.0, 2.0]]),
    "an upper bound": lambda batch: batch.update(upper=[1.0, 2.0]),
    "a word": lambda batch: batch.update(lower=["low", "high"]),
    "a number": lambda batch: batch.update(lower=1.0),
    "not a number": lambda batch: batch.update(lower=[float("nan"), 1.0]),
    "acceptance": lambda batch: batch.update(acceptance=[2.0, 0.0]),
    "lost": lambda batch: batch.update(lost=[-1, 0]),
    "huge": lambda batch: batch.update(lost=[2**64 - 1, 0]),
    "gone": lambda batch: batch.pop("upper"),
}


@pytest.mark.parametrize("how", CRAFTED)
def test_crafted_batches_are_done_again(how, tmp_path):
    """Behind a checksum that is right; seen to end in numpy's own words, or in wrong means."""
    file = filled(tmp_path)
    record = verify_checksum(file.read_bytes())
    CRAFTED[how](record["batches"]["2"])
    file.write_bytes(with_checksum(record))
    with pytest.warns(DamagedCheckpoint, match=rf"(?s){file.name} is damaged .* computed again"):
        assert Finished(tmp_path, WORK).get(2) is None


@pytest.mark.parametrize("begin", ["1", "6", "-2", "x", "02"])
def test_a_batch_that_begins_elsewhere_is_not_one(begin, tmp_path):
    file = filled(tmp_path)
    record = verify_checksum(file.read_bytes())
    record["batches"][begin] = copy.deepcopy(record["batches"]["0"])
    file.write_bytes(with_checksum(record))
    with pytest.warns(DamagedCheckpoint, match="no batch begins at"):
        Finished(tmp_path, WORK)
