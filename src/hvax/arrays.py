"""Named arrays <-> a safetensors file, checked by its SHA-256."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array


class Packed(NamedTuple):
    """Arrays as the content of a file."""

    content: bytes
    sha256: str
    narrow: dict[str, str]  # the dtypes that safetensors' NumPy reader does not know, by name


def pack(arrays: Mapping[str, np.ndarray]) -> Packed:
    """Every array bit for bit: bfloat16 and float8 are stored as integers of their width."""
    narrow = {name: str(a.dtype) for name, a in arrays.items() if a.dtype.isbuiltin == 2}
    stored = {n: a.view(f"u{a.dtype.itemsize}") if n in narrow else a for n, a in arrays.items()}
    whole = {n: np.ascontiguousarray(a).reshape(a.shape) for n, a in stored.items()}
    content = safetensors.numpy.save(whole)
    return Packed(content, hashlib.sha256(content).hexdigest(), narrow)


def unpack(path: Path, *, sha256: str, narrow: Mapping[str, str]) -> dict[str, Array]:
    """The arrays of a file that `pack` filled.

    Raises `FileNotFoundError` where it is missing, and `ValueError` where its checksum is another
    or it holds 64-bit arrays that JAX would shorten.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the weights file {path} is missing.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is damaged: its checksum is not the one that was written.")
    try:
        stored = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    wide = [name for name, array in stored.items() if array.dtype.itemsize == 8]
    if wide and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            f"{path} holds 64-bit arrays ({wide[0]} and others); switch them on with "
            "jax.config.update('jax_enable_x64', True) before loading."
        )
    for name, dtype in narrow.items():
        stored[name] = stored[name].view(jnp.dtype(dtype))
    return {name: jnp.asarray(array) for name, array in stored.items()}
