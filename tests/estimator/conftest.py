"""What the tests of the estimator share: small trainings of one structure, and one data set."""

import logging

import jax
import numpy as np
import pytest

from hvax.sklearn import HVAE

SMALL = {"n_components": 2, "hidden": (8,), "max_epochs": 2, "n_samples": 8, "random_state": 0}


def line(n=60, d=5, seed=0):
    """Rows (n, d) near a plane."""
    chance = np.random.default_rng(seed)
    plane = np.random.default_rng(9).normal(size=(2, d))
    return chance.normal(size=(n, 2)) @ plane + 0.3 * chance.normal(size=(n, d))


def holes(x, share=0.2, seed=1):
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)


@pytest.fixture(scope="session")
def x():
    return line()


@pytest.fixture(scope="session")
def fitted(x):
    return HVAE(**SMALL).fit(x)


@pytest.fixture
def compiled(caplog):
    """compiled(): the programs that were compiled since the last call, by name."""
    caplog.set_level(logging.WARNING)

    def names():
        texts = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return [text.split(" in ")[0] for text in texts if "Finished XLA compilation" in text]

    with jax.log_compiles():
        yield names
