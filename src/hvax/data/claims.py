"""Checks of what a file claims to hold, before anything is read or allocated for it."""

import math
import os
import stat
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_STORED

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

_DEFLATE_MOST = 1032  # deflate's largest compression ratio: 258 bytes from two bits


class Claim(NamedTuple):
    """Shape and dtype of an array according to its header."""

    shape: tuple[int, ...]
    dtype: np.dtype


def regular_file(path: str | Path, wanted: str = "a file") -> Path:
    """`path` as a `Path`, if it is a regular file that can be opened.

    Raises `FileNotFoundError`, `IsADirectoryError`, `PermissionError`, and `ValueError` for a
    device (which may never end) or a pipe (which would wait for a writer).
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} must be {wanted}, got a directory.")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} must be {wanted}, got no file. Check its name and folder: relative paths "
            f"start from {Path.cwd()}."
        ) from error
    if not stat.S_ISREG(mode):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
        raise ValueError(
            f"{path} must be {wanted}, got {kind}. Copy its content into a file first."
        )
    with path.open("rb"):
        return path


def claim_of(path: Path, archive: NpzFile, name: str) -> Claim | None:
    """Shape and dtype of a member of an .npz archive by its header; None if that is unreadable.

    Raises `ValueError` if the member cannot hold that much, or if it does not fit into memory.
    """
    if (zipped := archive.zip) is None:  # a closed archive
        return None
    try:
        info = zipped.getinfo(f"{name}.npy")
        with zipped.open(info) as member:
            version = np.lib.format.read_magic(member)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = read(member)
            start = member.tell()
    except Exception:  # NumPy raises a dozen types for damaged bytes; loading will report it
        return None
    if dtype.hasobject:
        return None
    claimed = start + math.prod(shape) * dtype.itemsize
    held = info.compress_size * (1 if info.compress_type == ZIP_STORED else _DEFLATE_MOST)
    if claimed != info.file_size or claimed > held + _DEFLATE_MOST:
        raise ValueError(
            f"{path} must hold the {claimed} bytes of the array {name!r}, {dtype} {shape}, that"
            f" its header claims, got an archive that holds at most {min(info.file_size, held)}. It"
            " is damaged: write it with numpy.savez."
        )
    if claimed > (memory := _memory()):
        raise ValueError(
            f"{path} must hold arrays that fit into memory, got {name!r}, {dtype} {shape}, of"
            f" {claimed / 2**30:.3g} GiB where there are {memory / 2**30:.3g}. Save it with"
            " numpy.save: a .npy file is read piece by piece."
        )
    return Claim(shape, dtype)


def require_whole(x: NDArray) -> None:
    """Raise `OSError` if a memory-mapped file has become shorter than its array.

    Reading beyond its end would kill the process (SIGBUS) without a message.
    """
    if not isinstance(x, np.memmap) or x.filename is None:
        return
    try:
        size = os.stat(x.filename).st_size
    except FileNotFoundError:  # a deleted file stays mapped
        return
    if size < x.offset + x.nbytes:
        raise OSError(
            f"{x.filename} was replaced or cut short while it was in use: it has {size} bytes, "
            f"its array needs {x.offset + x.nbytes}. Give a copy that no other program writes to."
        )


def _memory() -> float:
    """The machine's memory in bytes; infinity if the system does not tell (Windows)."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf
