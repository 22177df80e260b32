"""Odd arguments for every public function: python -m torture.arguments [EVERY]

Each gives a right answer, or a `ValueError` or `TypeError` of hvax's own whose message names the
argument. Prints what does not, and how many were tried and how many were met as they must be.
"""

import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import hvax
from hvax import hamiltonian, models, training
from hvax.evaluation.ais import annealed_importance_sampling

_OWN = str(Path(hvax.__file__).parent)


class Same(NamedTuple):
    """A value that must give the numbers of the plain float32 array."""

    value: Any


class Wrong(NamedTuple):
    """A value that must be refused."""

    value: Any


class Odd(NamedTuple):
    """A value that may be refused, or computed with: a NaN then gives a NaN."""

    value: Any


Values = list[tuple[str, Same | Wrong | Odd]]


def arrays(x: np.ndarray) -> Values:
    """Other forms of an array, and what is none."""
    read_only = x.copy()
    read_only.flags.writeable = False
    doubled = np.repeat(x, 2, axis=-1)[..., ::2]
    return [
        ("float64", Same(x.astype(np.float64))),
        ("jax", Same(jnp.asarray(x))),
        ("read-only", Same(read_only)),
        ("non-contiguous", Same(doubled)),
        ("Fortran order", Same(np.asfortranarray(x))),
        ("a list", Odd(x.tolist())),
        ("foreign byte order", Odd(x.astype(">f4"))),
        ("NaN", Odd(np.full_like(x, np.nan))),
        ("infinity", Odd(np.full_like(x, np.inf))),
        ("huge", Odd(np.full_like(x, 3e38))),
        ("negative", Odd(-1 - x)),
        ("complex", Wrong(x.astype(np.complex64))),
        ("objects", Wrong(x.astype(object))),
        ("text", Wrong(np.full(x.shape, "1"))),
        ("None", Wrong(None)),
        ("a string", Wrong("x")),
        ("a dict", Wrong({})),
    ]


def batches(x: np.ndarray) -> Values:
    """Examples in a batch; those of `x` are whole numbers."""
    return [
        *arrays(x),
        ("float16", Same(x.astype(np.float16))),
        ("integers", Same(x.astype(np.int32))),
        ("uint8", Same(x.astype(np.uint8))),
        ("booleans", Same(x.astype(bool))),
        ("no example", Wrong(x[:0])),
        ("no batch axis", Wrong(x[0])),
        ("an axis too many", Wrong(x[None])),
        ("one feature", Wrong(x[:, :1])),
        ("a feature too many", Wrong(np.concatenate([x, x[:, :1]], axis=1))),
        ("a number", Wrong(1.0)),
    ]


def vectors(z: np.ndarray) -> Values:
    """A vector of the latent's size."""
    return [
        *arrays(z),
        ("empty", Wrong(z[:0])),
        ("a batch", Wrong(np.stack([z, z]))),
        ("too short", Wrong(z[:1])),
        ("too long", Wrong(np.concatenate([z, z]))),
        ("a number", Wrong(np.float32(1))),
    ]


COUNTS: Values = [
    ("0", Wrong(0)), ("-1", Wrong(-1)), ("1.5", Wrong(1.5)), ("NaN", Wrong(float("nan"))),
    ("text", Wrong("3")), ("None", Wrong(None)), ("a boolean", Wrong(True)),
    ("an array", Wrong(np.ones(2, int))),
    ("NumPy's", Odd(np.int64(2))), ("a whole float", Odd(2.0)),
]  # fmt: skip
GIVEN_COUNTS = [value for value in COUNTS if value[0] != "None"]  # None is one by the data's size
KEYS: Values = [
    ("None", Wrong(None)), ("a number", Odd(0)), ("text", Wrong("key")),
    ("an array", Wrong(np.zeros(3, np.float32))),
    ("many keys", Wrong(jax.random.split(jax.random.key(0), 3))),
]  # fmt: skip
POSITIVE: Values = [
    ("0", Wrong(0.0)), ("-1", Wrong(-1.0)), ("NaN", Wrong(float("nan"))),
    ("infinity", Wrong(float("inf"))), ("text", Wrong("a")), ("complex", Wrong(1j)),
    ("an integer", Odd(1)), ("NumPy's", Odd(np.float64(0.1))),
]  # fmt: skip
NUMBERS: Values = [
    ("text", Wrong("a")), ("complex", Wrong(1j)), ("an array", Wrong(np.ones(2))),
    ("NaN", Odd(float("nan"))), ("infinity", Odd(float("inf"))), ("-1", Odd(-1.0)),
    ("an integer", Odd(1)),
]  # fmt: skip
THREE: Values = [
    ("two", Wrong((1.0, 1.0))), ("four", Wrong((1.0,) * 4)), ("text", Wrong("abc")),
    ("a number", Wrong(1.0)), ("complex", Wrong((1j, 1, 1))), ("None", Wrong(None)),
    ("zeros", Odd((0, 0, 0))), ("NaN", Odd((np.nan, 1, 1))), ("a list", Odd([1, 1, 1])),
]  # fmt: skip
BETAS: Values = [
    *POSITIVE, ("2", Wrong(2.0)), ("1", Odd(1.0)), ("an array", Wrong(np.full(2, 0.5))),
]  # fmt: skip
STEP_SIZES: Values = [
    *POSITIVE, ("a vector", Odd(np.full(2, 0.1))), ("zeros", Wrong(np.zeros(2))),
    ("three axes", Wrong(np.full((1, 1, 1), 0.1))), ("other steps", Wrong(np.full((9, 1), 0.1))),
    ("None", Wrong(None)),
]  # fmt: skip
MODELS: Values = [
    ("None", Wrong(None)), ("a number", Wrong(1)), ("text", Wrong("model")),
    ("a function", Wrong(lambda x: x)), ("an array", Wrong(np.ones(3))),
]  # fmt: skip
ETAS: Values = [
    ("2", Wrong(2.0)), ("-1", Wrong(-1.0)), ("NaN", Wrong(float("nan"))), ("text", Wrong("a")),
    ("complex", Wrong(0.5j)), ("None", Odd(None)), ("an array", Wrong(np.full(2, 0.5))),
    ("0", Odd(0)), ("NumPy's", Odd(np.float64(0.5))),
]  # fmt: skip
WEIGHTS: Values = [
    ("falling", Wrong([0.9, 0.5])), ("equal", Wrong([0.5, 0.5])), ("0", Wrong([0.0, 0.5])),
    ("above 1", Wrong([0.5, 1.5])), ("NaN", Wrong([0.5, float("nan")])),
    ("three", Odd([0.1, 0.2, 0.3])),
    ("a number", Wrong(0.5)), ("text", Wrong("ab")), ("complex", Wrong([0.1j, 0.5])),
    ("empty", Wrong([])), ("a dict", Wrong({})), ("a tuple", Odd((0.2, 0.5))),
]  # fmt: skip
MASSES: Values = [v for v in STEP_SIZES if v[0] != "None"]
CHOICES: Values = [("another", Wrong("nonsense")), ("None", Wrong(None)), ("a number", Wrong(1))]
CALLABLES: Values = [("a number", Wrong(1)), ("text", Wrong("f"))]


class Case(NamedTuple):
    """A public function with good arguments, and odd values for some of them."""

    name: str
    call: Callable[..., Any]
    good: dict[str, Any]
    odd: dict[str, Values]


def cases() -> list[Case]:
    chance, key = np.random.default_rng(0), jax.random.key(1)
    x = (chance.random((6, 5)) < 0.5).astype(np.float32)
    z = np.array([0.25, -0.5], np.float32)
    vae = hvax.VAE(*hvax.mlp((5,), 2, hidden=(4,), key=jax.random.key(0)))
    hvae = hvax.HVAE(vae, hvax.HamiltonianFlow(2))
    value_and_grad = hamiltonian.ReverseMode().value_and_grad(lambda z: (0.5 * z @ z, None))
    state = hamiltonian.phase_state(value_and_grad, z=jnp.asarray(z), rho=jnp.ones(2))
    outputs = hvae(jnp.asarray(x[0]), key=key, latent=True)
    two = {"x": batches(x), "target": [v for v in batches(x) if v[0] != "None"], "key": KEYS}
    one = {
        "x": [*arrays(x[0]), ("a batch", Wrong(x)), ("too short", Wrong(x[0, :3])),
              ("a number", Wrong(1.0))],
        "key": KEYS,
    }  # fmt: skip
    quiet = {"progress": False}
    return [
        *(
            Case(f"hvax.{f.__name__}", f, {"model": m, "x": x, "key": key, **more},
                 {"model": MODELS, **two, **odd})
            for f, m, more, odd in (
                (hvax.hamiltonian_elbo, hvae, {}, {}),
                (hvax.elbo, vae, {}, {"kl": CHOICES[:1] + CHOICES[2:]}),
                (hvax.importance_weighted_bound, hvae, {"num_samples": 2}, {"num_samples": COUNTS}),
                (hvax.loss, hvae, {"reg_function": _regularization},
                 {"kl": CHOICES[:1] + CHOICES[2:], "num_samples": COUNTS, "estimator": CHOICES,
                  "logp_prefactor": THREE, "logq_prefactor": THREE,
                  "reg_function": CALLABLES, "reg_strength": NUMBERS}),
                (hvax.loss, vae, {"reg_function": _regularization},
                 {"kl": CHOICES[:1] + CHOICES[2:], "num_samples": COUNTS, "estimator": CHOICES,
                  "kl_weight": NUMBERS, "reg_function": CALLABLES,
                  "reg_strength": NUMBERS}),
            )
        ),
        Case("HVAE", lambda **k: hvae(**k), {"x": x[0], "key": key}, one),
        Case("VAE", lambda **k: vae(**k), {"x": x[0], "key": key}, one),
        Case("HVAE.log_weight", lambda **k: hvae.log_weight(**k), {"x": x[0], "key": key}, one),
        Case("phase_state", hamiltonian.phase_state,
             {"value_and_grad": value_and_grad, "z": z, "rho": z},
             {"z": vectors(z), "rho": vectors(z), "value_and_grad": CALLABLES}),
        Case("leapfrog_step", hamiltonian.leapfrog_step,
             {"value_and_grad": value_and_grad, "state": state, "step_size": 0.1},
             {"step_size": [("text", Wrong("a")), ("complex", Wrong(1j)), ("None", Wrong(None)),
                            ("three", Wrong(np.ones(3))), ("two", Odd(np.ones(2)))]}),
        Case("HamiltonianFlow.__call__", hvax.HamiltonianFlow(2),
             {"potential": lambda z: 0.5 * z @ z, "z": z, "key": key},
             {"potential": CALLABLES, "z": [v for v in vectors(z) if v[0] != "too long"
                                            and v[0] != "too short"], "key": KEYS}),
        Case("HamiltonianFlow.uha.__call__", hvax.HamiltonianFlow.uha(2),
             {"potential": lambda z: 0.5 * z @ z, "z": z, "key": key,
              "start": hvax.DiagonalGaussian(jnp.zeros(2), jnp.zeros(2))},
             {"start": MODELS, "key": KEYS}),
        Case("models.log_p_bar", models.log_p_bar, {"outputs": outputs}, {"outputs": MODELS}),
        Case("models.log_q_bar", models.log_q_bar, {"outputs": outputs}, {"outputs": MODELS}),
        Case("hvax.HamiltonianFlow", hvax.HamiltonianFlow, {},
             {"num_steps": [v for v in COUNTS if v[0] != "0"], "step_size": STEP_SIZES,
              "tempering": CHOICES[:1] + CHOICES[2:], "gradient": CHOICES, "eta": ETAS,
              "leapfrog_steps": COUNTS, "mass": MASSES, "units": CHOICES, "integrator": CHOICES}),
        Case("hvax.HamiltonianFlow of two steps", hvax.HamiltonianFlow, {"num_steps": 2},
             {"bridge": [(n, v if n != "three" else Wrong(v.value)) for n, v in WEIGHTS]}),
        Case("FixedBridge", hamiltonian.FixedBridge, {"weights": [0.2, 0.5]}, {"weights": WEIGHTS}),
        Case("LearnedBridge", hamiltonian.LearnedBridge, {"num_steps": 2, "initial": [0.2, 0.5]},
             {"num_steps": COUNTS[1:], "initial": [v for v in WEIGHTS if v[0] != "three"]}),
        Case("AffineStepSize", hamiltonian.AffineStepSize, {"at_start": 0.1, "at_end": 0.2},
             {"at_start": POSITIVE, "at_end": POSITIVE}),
        Case("QuadraticTempering", hamiltonian.QuadraticTempering, {}, {"beta0": BETAS}),
        Case("TemperatureTempering", hamiltonian.TemperatureTempering, {"beta0": 0.5},
             {"beta0": BETAS}),
        Case("CustomTempering", hamiltonian.CustomTempering,
             {"schedule": lambda b, k, K: b, "beta0": 0.5},
             {"schedule": CALLABLES, "beta0": BETAS}),
        Case("FreeTempering", hamiltonian.FreeTempering, {"num_steps": 3},
             {"num_steps": COUNTS[1:]}),
        Case("hvax.Learned", hvax.Learned, {"initial": 0.1, "upper": 0.5},
             {"initial": POSITIVE, "upper": POSITIVE}),
        Case("hvax.Fixed", hvax.Fixed, {"value": 0.1},
             {"value": [("text", Wrong("a")), ("complex", Wrong(1j)), ("None", Wrong(None))]}),
        *(
            Case(f"hvax.{f.__name__}", f, {"optimizer": optax.adam(1e-3), "factor": 10.0},
                 {"optimizer": MODELS, "factor": POSITIVE})
            for f in (training.scale_flow_updates, training.clip_by_running_norm)
        ),
        Case("FiniteDifference", hamiltonian.FiniteDifference, {}, {"scheme": CHOICES}),
        Case("hvax.mlp", hvax.mlp, {"x_shape": (5,), "latent_size": 2, "key": key},
             {"x_shape": [("empty", Odd(())), ("0", Wrong((0,))), ("text", Wrong("a")),
                          ("None", Wrong(None)), ("-1", Wrong((-1,))), ("1.5", Wrong((1.5,)))],
              "latent_size": COUNTS, "key": KEYS,
              "hidden": [("empty", Wrong(())), ("0", Wrong((0,))), ("text", Wrong("a")),
                         ("1.5", Wrong((1.5,)))]}),
        Case("hvax.conv", hvax.conv, {"latent_size": 2, "key": key},
             {"latent_size": COUNTS, "key": KEYS}),
        Case("hvax.VAE", hvax.VAE, {"encoder": vae.encoder, "decoder": vae.decoder},
             {"encoder": CALLABLES, "decoder": [*CALLABLES, ("a function", Wrong(lambda z: z))],
              "prior": CALLABLES}),
        Case("hvax.HVAE", hvax.HVAE, {"vae": vae}, {"vae": MODELS, "flow": MODELS[1:],
                                                    "potential": CALLABLES}),
        Case("hvax.Decoder", hvax.Decoder,
             {"network": lambda z: z, "likelihood": hvax.Bernoulli()},
             {"network": CALLABLES, "likelihood": MODELS}),
        Case("hvax.FixedGaussian", hvax.FixedGaussian, {"sigma": 1.0}, {"sigma": POSITIVE}),
        Case("hvax.Categorical", hvax.Categorical, {"num_classes": 3}, {"num_classes": COUNTS}),
        Case("hvax.Examples", lambda **k: hvax.fit(vae, hvax.Examples(**k), epochs=1, batch_size=2,
                                                   progress=False).history[0]["loss"],
             {"stored": x}, {"stored": [v for v in batches(x) if v[0] not in ("a list", "jax")],
                             "scale": POSITIVE}),
        Case("hvax.train_state", hvax.train_state,
             {"model": vae, "optimizer": _ADAM, "key": key},
             {"model": MODELS, "optimizer": MODELS, "key": KEYS}),
        Case("hvax.train_step", lambda **k: hvax.train_step(
            hvax.train_state(vae, _ADAM, key=key), **k)[1], {"x": x}, {"x": batches(x)}),
        Case("hvax.fit", lambda **k: hvax.fit(**k, progress=False).history[0]["loss"],
             {"model": vae, "data": x, "epochs": 1, "batch_size": 2},
             {"model": MODELS, "data": batches(x), "epochs": GIVEN_COUNTS,
              "batch_size": GIVEN_COUNTS, "num_samples": COUNTS,
              "validation": [v for v in batches(x) if v[0] != "None"],
              "seed": [*COUNTS[1:7]], "patience": COUNTS[1:5], "save_seconds": POSITIVE[:3],
              "save_steps": COUNTS[:5], "max_skipped": COUNTS, "optimizer": MODELS[1:],
              "loss_function": CALLABLES, "transform": CALLABLES, "callback": CALLABLES}),
        Case("hvax.evaluate", lambda **k: hvax.evaluate(**k, **quiet),
             {"model": hvae, "data": x, "key": key, "num_samples": 3},
             {"model": MODELS, "data": batches(x), "key": KEYS, "num_samples": COUNTS}),
        Case("hvax.encode", lambda **k: hvax.encode(**k, **quiet),
             {"model": hvae, "data": x, "key": key, "num_samples": 2},
             {"model": MODELS, "data": batches(x), "key": KEYS[1:], "num_samples": COUNTS}),
        Case("hvax.reconstruct", lambda **k: hvax.reconstruct(**k, **quiet),
             {"model": hvae, "data": x, "key": key},
             {"model": MODELS, "data": batches(x), "key": KEYS[1:]}),
        Case("hvax.decode", lambda **k: hvax.decode(**k, **quiet),
             {"model": hvae, "z": np.stack([z, z]), "key": key},
             {"model": MODELS, "key": KEYS[1:],
              "z": [*arrays(np.stack([z, z])), ("one point", Wrong(z)),
                    ("none", Wrong(z[None, :0])), ("too long", Wrong(np.stack([x[0], x[0]])))]}),
        Case("hvax.sample", lambda **k: hvax.sample(**k, **quiet),
             {"model": hvae, "n": 2, "key": key},
             {"model": MODELS, "n": COUNTS, "key": KEYS[1:],
              "latent_size": [v for v in COUNTS if v[0] != "None"] + [("3", Wrong(3))]}),
        Case("hvax.interpolate", hvax.interpolate, {"start": z, "end": z + 1, "num_points": 3},
             {"start": [v for v in vectors(z) if v[0] != "a batch"], "num_points": COUNTS,
              "path": CHOICES}),
        Case("annealed_importance_sampling",
             lambda **k: annealed_importance_sampling(**k, **quiet),
             {"model": vae, "data": x[:2], "key": key, "num_temperatures": 4, "num_chains": 2},
             {"model": MODELS, "data": batches(x[:2]), "key": KEYS, "num_temperatures": COUNTS,
              "num_chains": COUNTS, "start": CHOICES}),
    ]  # fmt: skip


_ADAM = optax.adam(1e-3)


def _regularization(outputs: Any) -> jax.Array:
    return jnp.float32(0.25)


# What the model meets is one example of the data, x, and says so.
_NAMES = {
    "data": ("data", "x ", "examples"),
    "validation": ("validation", "x "),
    "stored": ("stored", "data", "x ", "examples"),
    "scale": ("scale", "data"),
    "start": ("start", "end"),
    "latent_size": ("latent_size", "z "),
}


def failure(case: Case, name: str, value: tuple[str, Same | Wrong | Odd]) -> str | None:
    """What a function does with an odd argument that it must not, in words; else None."""
    what, odd = value
    where = f"{case.name}({name}: {what})"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = case.call(**{**case.good, name: odd.value})
    except (ValueError, TypeError) as error:
        if isinstance(odd, Same):
            return f"{where} refused: {error}"
        last = traceback.extract_tb(error.__traceback__)[-1]
        if not last.filename.startswith(_OWN):
            return f"{where}: {type(error).__name__} in {last.filename}: {str(error)[:200]!r}"
        named = any(word in str(error) for word in _NAMES.get(name, (name,)))
        return None if named else f"{where} does not name it: {error}"
    except Exception as error:
        return f"{where}: {type(error).__name__}: {str(error)[:200]!r}"
    if isinstance(odd, Wrong):
        return f"{where} was taken"
    if isinstance(odd, Same) and not _agree(found, case.call(**case.good)):
        return f"{where} gave other numbers"
    return None


def _agree(a: Any, b: Any) -> bool:
    a, b = (jax.tree.leaves(eqx.filter(t, eqx.is_inexact_array_like)) for t in (a, b))
    return len(a) == len(b) and all(
        np.allclose(
            np.asarray(p, float), np.asarray(q, float), rtol=1e-4, atol=1e-5, equal_nan=True
        )
        for p, q in zip(a, b, strict=True)
    )


def main(every: int = 1) -> int:
    """`every`: only each so-many-th argument."""
    tried = [(case, name, odd) for case in cases() for name in case.odd for odd in case.odd[name]]
    found = [failure(*some) for some in tried[::every]]
    wrong = [f for f in found if f is not None]
    for words in wrong:
        print(words)
    print(f"{len(found)} {len(found) - len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
