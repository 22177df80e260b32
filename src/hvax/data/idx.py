"""IDX files, the format of MNIST: a typed header, then one big-endian array."""

import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.claims import regular_file

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_MOST = 1032  # deflate's largest compression ratio: 258 bytes from two bits
_MAX_DIMENSIONS = 32
_CHUNK = 1 << 20


def read_idx(path: str | Path, *, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """The array of an IDX file, in memory and in native byte order.

    Gzip is recognized by content, not by name. Shape and dtype (uint8, int8, int16, int32, float32
    or float64) are those of the header; `shape`, if given, is the one it must have.

    Raises `OSError` if the file cannot be opened, and `ValueError`, naming the file, if it is not
    IDX, is truncated, corrupt or followed by other bytes, has an empty dimension, or has a header
    that claims more than the file can hold (detected before memory is allocated).
    """
    path = regular_file(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        gzipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        if not gzipped:
            return _read_stream(path, file, most=size, wanted=shape)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _read_stream(path, stream, most=size * _GZIP_MOST, wanted=shape)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{path} must be a complete gzip file, got {size} bytes that do not decompress"
                f" ({error}). Fetch the file again."
            ) from error


def _read_stream(
    path: Path, stream: io.BufferedIOBase, *, most: int, wanted: tuple[int, ...] | None
) -> NDArray[Any]:
    """The array in `stream`, which can hold at most `most` bytes."""
    shape, dtype, header_bytes = _read_header(path, stream)
    if wanted is not None and shape != wanted:
        raise ValueError(
            f"{path} must be uint8 {wanted}, got {dtype.name} {shape}. Fetch the data set again,"
            " or give other data by path."
        )
    expected = math.prod(shape) * dtype.itemsize
    if header_bytes + expected > most:
        raise ValueError(
            f"{path} must hold the {expected} bytes of data, {dtype.name} {shape}, of its header,"
            f" got a file of at most {most - header_bytes}. It is truncated or damaged: fetch it"
            " again."
        )
    # Piece by piece: if the header claims too much, no more memory is used than there are data.
    data = bytearray()
    while piece := stream.read(min(_CHUNK, expected - len(data))):
        data += piece
    if len(data) < expected:
        raise ValueError(
            f"{path} must hold the {expected} bytes of data, {dtype.name} {shape}, of its header,"
            f" got {len(data)}. The file is truncated: fetch it again."
        )
    if stream.read(1):  # for gzip this also reads the checksum at the end
        raise ValueError(
            f"{path} must end after the {expected} bytes of data, {dtype.name} {shape}, of its"
            " header, got more bytes. Fetch the file again, or remove what follows the array."
        )
    x = np.frombuffer(data, dtype=dtype).reshape(shape)
    return x.astype(dtype.newbyteorder("="), copy=False)


def _read_header(
    path: Path, stream: io.BufferedIOBase
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype as stored, and the length of the header in bytes."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise ValueError(
            f"{path} must be an IDX file, which begins 00 00, a type (08, 09, 0b, 0c, 0d or"
            f" 0e) and the number of dimensions, got {magic.hex(' ') or 'no bytes'}. Fetch the file"
            " again."
        )
    num_dimensions = magic[3]
    if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
        raise ValueError(
            f"{path} must have 1 to {_MAX_DIMENSIONS} dimensions, got {num_dimensions}."
            " Fetch the file again."
        )
    sizes = stream.read(4 * num_dimensions)
    if len(sizes) < 4 * num_dimensions:
        raise ValueError(
            f"{path} must have a header of {4 + 4 * num_dimensions} bytes, got {4 + len(sizes)}."
            " The file is truncated: fetch it again."
        )
    shape = struct.unpack(f">{num_dimensions}I", sizes)
    if 0 in shape:
        raise ValueError(
            f"{path} must have dimensions of at least 1, got {shape}. The file has no data."
        )
    return shape, np.dtype(_DTYPES[magic[2]]), 4 + len(sizes)
