"""Tables drawn by seed: what goes wrong first, made on purpose, and twenty at random."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.first_try.files import write_npy, write_npz, write_table

Floats = NDArray[np.float64]


def correlated(rng: np.random.Generator, n: int, columns: int, rank: int) -> Floats:
    """Rows of unit variance that share `rank` factors, with a fifth of noise of their own."""
    loadings = rng.normal(size=(rank, columns))
    loadings *= np.sqrt(0.8) / np.linalg.norm(loadings, axis=0)
    return rng.normal(size=(n, rank)) @ loadings + np.sqrt(0.2) * rng.normal(size=(n, columns))


def units(path: Path) -> None:
    """Ten correlated columns, from nanometers to gigahertz: standard deviations 1e-9 to 1e9."""
    rng = np.random.default_rng(2)
    scale = 10.0 ** np.array([-9, -7, -5, -3, -1, 1, 3, 5, 7, 9])
    names = ["path (m)", "force (N)", "current (A)", "mass (kg)", "time (s)", "angle (deg)"]
    names += ["height (m)", "pressure (Pa)", "resistance (Ohm)", "frequency (Hz)"]
    write_table(path, names, scale * (3 + correlated(rng, 400, 10, 3)))


def constants(path: Path) -> None:
    """Four columns that vary, and a constant, a zero, a rarely other one, one that hardly moves."""
    rng = np.random.default_rng(3)
    n = 300
    rare = np.zeros(n)
    rare[rng.choice(n, 3, replace=False)] = 1.5
    hardly = 273.15 + 1e-4 * rng.normal(size=n)
    x = np.column_stack([correlated(rng, n, 4, 2), np.full(n, 2.5), np.zeros(n), rare, hardly])
    names = ["a", "b", "c", "d", "gain", "offset", "alarm", "temperature (K)"]
    write_table(path, names, x)


def twenty_rows(path: Path) -> None:
    rng = np.random.default_rng(4)
    write_table(path, ["x", "y", "z"], 50 + 7 * correlated(rng, 20, 3, 1))


def cauchy(path: Path) -> None:
    """No mean, no variance: t with one degree of freedom, correlated."""
    rng = np.random.default_rng(5)
    x = correlated(rng, 600, 5, 2) / np.sqrt(rng.chisquare(1, size=(600, 5)))
    write_table(path, [f"return {i}" for i in range(5)], x)


def log_normal(path: Path) -> None:
    """Concentrations over six orders of magnitude."""
    rng = np.random.default_rng(6)
    x = np.exp(2.0 * correlated(rng, 600, 6, 2))
    write_table(path, [f"concentration {i} (mg/l)" for i in range(6)], x)


def poisson(path: Path) -> None:
    """Counts of one rate, 100, in 200 rows of 10, without any structure to find."""
    write_npy(path, np.random.default_rng(7).poisson(100, (200, 10)))


def negative_binomial(path: Path) -> None:
    """Overdispersed counts of 40 features in 3 groups, in rows of different totals."""
    rng = np.random.default_rng(8)
    n, features = 600, 40
    log_mean = rng.normal(1.0, 1.2, size=(3, features))[rng.integers(0, 3, n)]
    mean = np.exp(log_mean + 0.5 * rng.normal(size=(n, 1)))
    r = np.exp(rng.normal(0.7, 0.5, features))
    counts = rng.poisson(rng.gamma(r, mean / r))
    write_table(path, [f"gene{i}" for i in range(features)], counts)


def bits(path: Path) -> None:
    """Answers yes and no to 30 questions, by two traits of who answers."""
    rng = np.random.default_rng(9)
    logit = 1.5 * rng.normal(size=(800, 2)) @ rng.normal(size=(2, 30)) + rng.normal(size=30)
    yes = (rng.uniform(size=logit.shape) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    write_table(path, [f"question {i}" for i in range(30)], yes)


def curves(path: Path) -> None:
    """A sensor's curves of 100 steps: a rise, a decay and an oscillation, each of its own size."""
    rng = np.random.default_rng(10)
    n, t = 800, np.linspace(0, 1, 100)
    rise, decay, size = rng.uniform(0.05, 0.3, n), rng.uniform(0.5, 2, n), rng.lognormal(0, 0.3, n)
    phase = rng.uniform(0, 2 * np.pi, n)
    shape = (1 - np.exp(-t / rise[:, None])) * np.exp(-t / decay[:, None])
    wave = 0.1 * np.sin(2 * np.pi * 3 * t + phase[:, None])
    x = 20 + 5 * size[:, None] * shape + wave + 0.03 * rng.normal(size=(n, 100))
    write_npz(path, curves=x.astype(np.float32))


def at_random(seed: int, path: Path) -> None:
    """A table whose size, groups, correlations, units, tails, rounding and copies `seed` draws."""
    rng = np.random.default_rng([20181208, seed])
    n, columns = int(np.exp(rng.uniform(np.log(40), np.log(3000)))), int(rng.integers(2, 25))
    groups = int(rng.integers(1, 6))
    center = rng.uniform(0, 3) * rng.normal(size=(groups, columns))
    x = correlated(rng, n, columns, int(rng.integers(1, 5))) + center[rng.integers(0, groups, n)]
    x = np.column_stack([_warped(rng, column) for column in x.T])
    x = x * 10.0 ** rng.uniform(-5, 5, columns)
    x = x + rng.choice([0.0, 1.0, 10.0], columns) * x.std(0)
    if rng.uniform() < 0.3:  # some rows were entered twice
        copied = rng.integers(0, n, n // 10)
        x = np.concatenate([x, x[copied]])[rng.permutation(n + len(copied))]
    write_table(path, [f"feature {i}" for i in range(columns)], x)


def _warped(rng: np.random.Generator, x: Floats) -> Floats:
    """A column as it is, skewed, heavy in both tails, or rounded to a few levels."""
    kind = rng.choice(["as it is", "skewed", "heavy", "rounded"], p=[0.5, 0.2, 0.1, 0.2])
    if kind == "skewed":
        return np.exp(rng.uniform(0.3, 1.2) * x)
    if kind == "heavy":
        return np.sinh(rng.uniform(0.5, 1.5) * x)
    return x if kind == "as it is" else np.asarray(np.rint(x * rng.uniform(1, 10)))
