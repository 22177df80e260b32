"""Cases of torture.arguments for what reads, splits and trains by itself."""

from typing import Any

import jax
import numpy as np

import hvax
from torture.odd_values import (
    CHOICES,
    COUNTS,
    FRACTIONS,
    GIVEN_COUNTS,
    HIDDEN,
    MODELS,
    PATHS,
    POSITIVE,
    SEEDS,
    Case,
    Odd,
    Wrong,
    batches,
)


def other_vae() -> hvax.VAE:
    return hvax.VAE(*hvax.mlp((9,), 2, hidden=(4,), key=jax.random.key(0)))


def pipeline_cases(chance: np.random.Generator) -> list[Case]:
    """What reads, splits and trains by itself. Examples of any shape do here."""
    x = (chance.random((24, 3)) < 0.5).astype(np.float32)
    shapes = ("no batch axis", "one feature", "a feature too many")
    data = [(what, Odd(v.value) if what in shapes else v) for what, v in batches(x)]
    parts = hvax.load_parts(x)
    train = {"epochs": 1, "hidden": (4,), "latent_size": 2, "num_samples": 2, "progress": False}
    return [
        Case("hvax.load_parts", lambda **k: _rows(hvax.load_parts(**k)), {"data": x},
             {"data": data, "array": CHOICES[:1],
              "columns": [*CHOICES[:1], ("a list", Wrong(["a"]))],
              "header": CHOICES, "fractions": FRACTIONS, "split_seed": SEEDS,
              "labels": [("too few", Wrong(np.arange(3))), ("a number", Wrong(1)),
                         ("two columns", Wrong(np.ones((24, 2)))), ("text", Wrong("kind")),
                         ("words", Odd(["a"] * 24))],
              "likelihood": [*CHOICES[:1], *CHOICES[2:], ("one itself", Wrong(hvax.Bernoulli())),
                             ("empty text", Wrong(""))],
              "binarize": CHOICES[:1] + CHOICES[2:], "transform": CHOICES}),
        Case("hvax.load_parts of a name", hvax.load_parts, {"data": "mnist"}, {"data_dir": PATHS}),
        Case("hvax.load_parts, sigma", lambda **k: _rows(hvax.load_parts(**k)),
             {"data": x, "likelihood": "fixed-gaussian"}, {"sigma": POSITIVE}),
        Case("hvax.load_parts, classes", lambda **k: _rows(hvax.load_parts(**k)),
             {"data": x.astype(int), "likelihood": "categorical"}, {"num_classes": GIVEN_COUNTS}),
        Case("hvax.train", lambda **k: hvax.train(**k).fitted.history[0]["loss"],
             {"data": x, "flow": None, **train},
             {"data": [v for v in data if isinstance(v[1], Wrong)], "network": CHOICES,
              "hidden": HIDDEN, "latent_size": GIVEN_COUNTS,
              "warm_start": [*MODELS[1:], ("of other sizes", Wrong(other_vae()))],
              "epochs": GIVEN_COUNTS, "batch_size": GIVEN_COUNTS, "patience": COUNTS[1:5],
              "optimizer": MODELS[1:], "train_samples": COUNTS, "estimator": CHOICES,
              "num_samples": COUNTS, "test_points": COUNTS, "seed": SEEDS, "run_dir": PATHS,
              "save_seconds": POSITIVE[:3], "max_skipped": COUNTS}),
        Case("hvax.train with a flow", lambda **k: hvax.train(**k).fitted.history[0]["loss"],
             {"data": parts, "flow": hvax.HamiltonianFlow(1), "baseline": False, **train},
             {"flow": [*CHOICES[:1], *CHOICES[2:], ("a model", Wrong(other_vae())),
                       ("a class", Wrong(hvax.HamiltonianFlow))],
              "flow_from_epoch": GIVEN_COUNTS}),
    ]  # fmt: skip


def _rows(parts: Any) -> list[np.ndarray]:
    return [np.asarray(part[:], float) for part in (parts.train, parts.validation, parts.test)]
