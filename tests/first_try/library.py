"""One data set through the library by its defaults, as a user of Python writes it.

    python -m tests.first_try.library NAME OUT.json

In a process of its own: the parent takes the time. What came of it is written as JSON, also where
it ends with an exception.
"""

import json
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tests.first_try.sets import SETS, DataSet

import hvax
from hvax.data import load_source, split
from hvax.data.check import holds_bits


def likelihood_of(x: np.ndarray) -> hvax.AbstractLikelihood:
    """What its user would say of an array: bits, counts, or real numbers."""
    if holds_bits(x):
        return hvax.Bernoulli()
    if np.issubdtype(x.dtype, np.integer):
        return hvax.NegativeBinomial()
    return hvax.LearnedGaussian()


def tried(data: DataSet) -> dict[str, Any]:
    """What `fit` and `evaluate` say of a data set, with the same parts as the program's."""
    source = load_source(data.file, labels=data.option("labels"), array=data.option("array"))
    parts = split(source)
    x_train, x_validation, x_test = (
        source.x[index] for index in (parts.train, parts.validation, parts.test)
    )
    likelihood = likelihood_of(source.x)
    latent_size = min(10, x_train[0].size)

    key = jax.random.key(0)
    vae = hvax.VAE(*hvax.mlp(x_train.shape[1:], latent_size, likelihood=likelihood, key=key))
    fitted = hvax.fit(hvax.HVAE(vae), x_train, validation=x_validation, progress=False)
    scores = hvax.evaluate(fitted.model, x_test, key=key, progress=False)
    return {
        "likelihood": type(likelihood).__name__,
        "model": type(fitted.model).__name__,
        "elbo": scores.elbo,
        "elbo_se": scores.elbo_se,
        "nll": scores.nll,
        "trusted": scores.trusted,
        "skipped": fitted.skipped,
        "ended": fitted.ended,
        "epochs": len(fitted.history),
        "seconds_training": fitted.seconds_training,
        "seconds_compiling": fitted.seconds_compiling,
        "elbo_per_point": scores.per_point.elbo.tolist(),
    }


def main(name: str, out: str) -> int:
    record: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        try:
            record = tried(SETS[name])
        except Exception as error:
            traceback.print_exc()
            record = {"error": f"{type(error).__name__}: {error}"}
    record["warnings"] = [f"{w.category.__name__}: {w.message}" for w in given]
    Path(out).write_text(json.dumps(record) + "\n")
    return 1 if "error" in record else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
