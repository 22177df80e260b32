"""What a file claims to be, before anything is read or allocated for it."""

import math
import os
import stat
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_STORED

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

_DEFLATE_MOST = 1032  # deflate's best is 258 bytes from two bits: no file holds more times its size


class Claim(NamedTuple):
    """An array by its header."""

    shape: tuple[int, ...]
    dtype: np.dtype


def regular_file(path: str | Path, wanted: str = "a file") -> Path:
    """The path, once it is known to be a file that opens and has an end.

    Raises `FileNotFoundError`, `IsADirectoryError`, `PermissionError`, and `ValueError` for a
    device or a pipe: the one may have no end, the other waits for a writer.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected {wanted}, got a directory")
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
        raise ValueError(
            f"{path}: expected {wanted}, got {kind}; copy its content into a file first"
        )
    with path.open("rb"):
        return path


def claim_of(path: Path, archive: NpzFile, name: str) -> Claim | None:
    """What a member of an .npz archive says it is; None for one that NumPy is to judge.

    Raises `ValueError` where it does not fit what the archive holds, or into memory.
    """
    try:
        info = archive.zip.getinfo(f"{name}.npy")  # type: ignore[union-attr]
        with archive.zip.open(info) as member:  # type: ignore[union-attr]
            version = np.lib.format.read_magic(member)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = read(member)
            start = member.tell()
    except Exception:  # over damaged bytes a dozen types are raised, as in NumPy itself
        return None
    if dtype.hasobject:
        return None
    claimed = start + math.prod(shape) * dtype.itemsize
    held = info.compress_size * (1 if info.compress_type == ZIP_STORED else _DEFLATE_MOST)
    if claimed != info.file_size or claimed > held + _DEFLATE_MOST:
        raise ValueError(
            f"{path}: expected {claimed} bytes in the array {name!r}, {dtype} {shape}, by its"
            f" header, got an archive that holds at most {min(info.file_size, held)}; it is"
            " damaged: write it with numpy.savez"
        )
    if claimed > (memory := _memory()):
        raise ValueError(
            f"{path}: expected arrays that fit into memory, got {name!r}, {dtype} {shape}, of"
            f" {claimed / 2**30:.3g} GiB where there are {memory / 2**30:.3g}; save it with"
            " numpy.save: a .npy file is read piece by piece"
        )
    return Claim(shape, dtype)


def require_whole(x: NDArray) -> None:
    """Raises `OSError` where a memory-mapped file has become shorter than the array: to read it
    would kill the process without a message."""
    if not isinstance(x, np.memmap) or x.filename is None:
        return
    try:
        size = os.stat(x.filename).st_size
    except FileNotFoundError:  # what was mapped stays
        return
    if size < x.offset + x.nbytes:
        raise OSError(
            f"{x.filename} was replaced or cut short while it was in use: it has {size} bytes, "
            f"{x.offset + x.nbytes} are expected. Give a copy that no other program writes to."
        )


def _memory() -> float:
    """Bytes of this machine's memory; infinity where the system does not say (Windows)."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf
