"""Named arrays to and from a safetensors file, which is checked by its SHA-256."""

import hashlib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
    narrow: dict[str, str]  # name of an array -> its dtype, where NumPy itself does not know it


# The fields in which a manifest names a file of arrays.
ARRAYS_ENTRY: dict[str, type] = {"sha256": str, "narrow": dict}


def storable(dtype: Any) -> bool:
    """Whether `pack` takes arrays of a NumPy dtype: real numbers of at most 64 bits, JAX's narrow
    ones too, booleans, and complex64."""
    plain = dtype.kind in "biuf" and dtype.itemsize <= 8
    return plain or dtype == np.complex64 or _is_narrow(dtype)


def pack(arrays: Mapping[str, np.ndarray]) -> Packed:
    """The content of a safetensors file that holds every array bit for bit.

    safetensors' NumPy reader does not know bfloat16 and float8: they are stored as unsigned
    integers of their width, and listed in `narrow`.

    Raises `TypeError` for a dtype that is not `storable`.
    """
    for name, array in arrays.items():
        if not storable(array.dtype):
            raise TypeError(f"cannot save {name}, an array of {array.dtype}.")
    narrow = {name: str(a.dtype) for name, a in arrays.items() if _is_narrow(a.dtype)}
    stored = {n: a.view(f"u{a.dtype.itemsize}") if n in narrow else a for n, a in arrays.items()}
    whole = {n: np.ascontiguousarray(a).reshape(a.shape) for n, a in stored.items()}
    content = safetensors.numpy.save(whole)
    return Packed(content, hashlib.sha256(content).hexdigest(), narrow)


def unpack(path: Path, *, sha256: str, narrow: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of a file that `pack` filled, on JAX's device.

    Raises what `read` and `on_device` raise.
    """
    arrays = read(path, sha256=sha256, narrow=narrow)
    return {name: on_device(array, name, path) for name, array in arrays.items()}


def read(path: Path, *, sha256: str, narrow: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a file that `pack` filled, as NumPy has them.

    `narrow` is that of `Packed`, or whatever a manifest has in its place. Raises
    `FileNotFoundError` where the file is missing, and `ValueError` where its size is not what its
    header says, or is more than the machine's memory, or where its checksum differs.
    """
    content = _content(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is damaged: its checksum is not the one that was written.")
    try:
        stored = safetensors.numpy.load(content)
    except MemoryError as error:
        raise _too_large(path, len(content)) from error
    except Exception as error:  # of any kind: the file claims what it likes, by a right checksum
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}.") from error
    for name, dtype in narrow.items():
        stored[name] = _as_narrow(stored.get(name), dtype, f"{name[:100]!r} of {path}")
    return stored


def on_device(array: np.ndarray, name: str, path: Path) -> Array:
    """An array of a file as a JAX array.

    Raises `ValueError` for 64-bit numbers while JAX has them switched off, as it would round them,
    and where the array is too large for the device.
    """
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ValueError(
            f"{path} holds 64-bit arrays ({name} and others); switch them on with "
            "jax.config.update('jax_enable_x64', True) before loading."
        )
    try:
        return jnp.asarray(array)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        raise _too_large(path, array.nbytes) from error


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"the weights file {path} is missing.")
    try:
        # Reads the header alone, and compares the sizes that it claims with the file's: a file
        # that somebody has made longer is not read into memory.
        with safetensors.safe_open(path, framework="numpy"):
            pass
        size = path.stat().st_size
        if size > _memory():
            raise MemoryError
        return path.read_bytes()
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the weights file {path} is missing.") from error
    except MemoryError as error:
        raise _too_large(path, size) from error


def has_hash_in_name(file: Path, pattern: re.Pattern[str]) -> bool:
    """Whether a file's name matches a pattern whose one group is the start of its SHA-256: such a
    file was written by hvax, and holds what it was written with."""
    named = pattern.fullmatch(file.name)
    if named is None or file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest().startswith(named[1])


def _memory() -> float:
    """The bytes of memory that this machine has; infinity where the system does not say (Windows).
    There a file that is too large ends in the system's own error."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _too_large(path: Path, size: int) -> ValueError:
    return ValueError(
        f"{path} is too large for the memory: {size / 2**30:.1f} GiB. Use a machine with more."
    )


def _is_narrow(dtype: Any) -> bool:
    return dtype.isbuiltin == 2  # defined outside NumPy, by ml_dtypes


def _as_narrow(array: np.ndarray | None, dtype: Any, what: str) -> np.ndarray:
    """The array that was stored as integers of its width."""
    try:
        kind = jnp.dtype(dtype) if isinstance(dtype, str) and dtype.isidentifier() else None
    except TypeError:
        kind = None
    if kind is None or not _is_narrow(kind):
        raise ValueError(f"{what} is damaged: {str(dtype)[:100]!r} is no dtype of narrow numbers.")
    if array is None or array.dtype != np.dtype(f"u{kind.itemsize}"):
        raise ValueError(f"{what} is damaged: it is not stored as {kind} is.")
    return array.view(kind)
