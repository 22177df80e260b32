"""Odd arguments for every public function: python -m torture.arguments [EVERY [PART]]

Each gives a right answer, or a `ValueError` or `TypeError` of hvax's own whose message names the
argument. Prints what does not, and how many were tried and how many were met as they must be.
"""

import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import hvax
from hvax import hamiltonian, models, training
from hvax.evaluation.ais import annealed_importance_sampling
from torture.odd_values import (
    BETAS,
    CALLABLES,
    CHOICES,
    COUNTS,
    ETAS,
    GIVEN_COUNTS,
    HIDDEN,
    KEYS,
    MASSES,
    MODELS,
    NUMBERS,
    POSITIVE,
    STEP_SIZES,
    THREE,
    WEIGHTS,
    Case,
    Odd,
    Same,
    Wrong,
    arrays,
    batches,
    vectors,
)  # fmt: skip
from torture.pipeline import other_vae, pipeline_cases

_OWN = str(Path(hvax.__file__).parent)


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
              "hidden": HIDDEN}),
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
              "batch_size": GIVEN_COUNTS, "train_samples": COUNTS,
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
        Case("hvax.compare", lambda **k: hvax.compare(**k, **quiet),
             {"models": {"vae": vae, "hvae": hvae}, "data": x, "key": key, "num_samples": 2},
             {"models": [*MODELS, ("one", Wrong({"vae": vae})), ("a list", Wrong([vae, hvae])),
                         ("one that is none", Wrong({"vae": vae, "b": 1})),
                         ("one by None", Wrong({"vae": vae, "b": None})),
                         ("of other sizes", Wrong({"vae": vae, "b": other_vae()}))],
              "data": batches(x), "key": KEYS[1:], "num_samples": COUNTS}),
        *pipeline_cases(chance),
    ]  # fmt: skip


_ADAM = optax.adam(1e-3)


def _regularization(outputs: Any) -> jax.Array:
    return jnp.float32(0.25)


# What the model meets is one example of the data, x, and says so.
_NAMES = {
    "data": ("data", "x ", "examples", "source"),
    "models": ("model",),
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


def main(every: int = 1, part: str = "") -> int:
    """`every`: only each so-many-th argument; `part`: of the names of the functions to try."""
    chosen = [case for case in cases() if part in case.name]
    tried = [(case, name, odd) for case in chosen for name in case.odd for odd in case.odd[name]]
    found = [failure(*some) for some in tried[::every]]
    wrong = [f for f in found if f is not None]
    for words in wrong:
        print(words)
    print(f"{len(found)} {len(found) - len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int((sys.argv[1:] or ["1"])[0]), *sys.argv[2:]))
