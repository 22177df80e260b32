"""Odd values of arguments: other forms of what is right, and what must be refused."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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
        *(value for value in arrays(x) if value[0] != "objects"),
        ("objects", Odd(x.astype(object))),  # a data set may hold numbers as Python objects
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
FRACTIONS: Values = [
    ("two", Wrong((0.8, 0.2))), ("negative", Wrong((1.2, -0.1, -0.1))), ("all 1", Wrong((1, 1, 1))),
    ("NaN", Wrong((0.8, float("nan"), 0.1))), ("no training", Wrong((0, 0.5, 0.5))),
    ("no test", Wrong((0.9, 0.1, 0.0))), ("text", Wrong("abc")), ("a number", Wrong(1.0)),
    ("complex", Wrong((0.8, 0.1j, 0.1))), ("None", Wrong(None)), ("a list", Odd([0.6, 0.2, 0.2])),
    ("an array", Odd(np.array([0.6, 0.2, 0.2]))),
]  # fmt: skip
HIDDEN: Values = [
    ("empty", Wrong(())), ("0", Wrong((0,))), ("text", Wrong("a")), ("1.5", Wrong((1.5,))),
    ("a number", Wrong(4)), ("a list", Odd([4])),
]  # fmt: skip
PATHS: Values = [("a number", Wrong(1)), ("bytes", Wrong(b"x")), ("a list", Wrong(["x"]))]
SEEDS: Values = COUNTS[1:7]


class Case(NamedTuple):
    """A public function with good arguments, and odd values for some of them."""

    name: str
    call: Callable[..., Any]
    good: dict[str, Any]
    odd: dict[str, Values]
