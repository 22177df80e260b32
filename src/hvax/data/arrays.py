"""Users' files -> examples and, where the file has them, labels.

Nothing is unpickled, ever. A missing file raises `FileNotFoundError`, a directory
`IsADirectoryError`, a file that may not be read `PermissionError`; whatever is wrong inside a file
is a `ValueError` that names the file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from hvax.data.claims import claim_of, regular_file
from hvax.data.header import Header
from hvax.data.table import Table, read_csv

SUFFIXES = (".npy", ".npz", ".csv")
_WANTED = f"a file that ends in {', '.join(SUFFIXES)}"
_ZIP_MAGIC = (b"PK\3\4", b"PK\5\6")  # the second is an archive without members


def read_array(
    path: str | Path,
    *,
    array: str | None = None,
    labels: str | None = None,
    columns: Sequence[str] | None = None,
    header: Header = "auto",
) -> Table:
    """Examples (n, ...) and labels (n,), or None, of a file that ends in .npy, .npz or .csv.

    `array`, `labels`, `columns` and `header` choose inside the file: see `read_npz` and `read_csv`.

    Raises `OSError` when the file cannot be opened, and `ValueError` for what is wrong inside it,
    for another suffix and for a choice that the format does not offer.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        regular_file(path, _WANTED)
        raise ValueError(
            f"{path}: expected a file that ends in {', '.join(SUFFIXES)}, got {suffix!r};"
            " convert the file"
        )
    if array is not None and suffix != ".npz":
        raise ValueError(
            f"{path}: expected `array` only with a .npz file, in which it names an array, got"
            f" {array!r}; leave it out"
        )
    if suffix == ".csv":
        return read_csv(regular_file(path, _WANTED), labels=labels, columns=columns, header=header)
    if columns is not None:
        raise ValueError(
            f"{path}: expected `columns` only with a .csv file, got {', '.join(columns)}; leave"
            " them out"
        )
    if header != "auto":
        raise ValueError(
            f"{path}: expected `header` only with a .csv file, got {header!r}; leave it out"
        )
    if suffix == ".npz":
        return Table(*read_npz(path, array=array, labels=labels))
    if labels is not None:
        raise ValueError(
            f"{path}: expected no `labels` with a .npy file, which holds one array, got {labels!r};"
            " save both arrays with numpy.savez and give the .npz file"
        )
    return Table(read_npy(path), None)


def read_npy(path: str | Path) -> NDArray[Any]:
    """The array of a .npy file, memory-mapped read-only; in memory if its byte order is foreign.

    Raises `OSError` when the file cannot be opened, and `ValueError` when it is not .npy, is
    truncated, holds more than one array, or holds Python objects, which are never unpickled.
    """
    path = regular_file(path, _WANTED)
    size = path.stat().st_size
    try:
        x = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        # Over damaged bytes NumPy raises a dozen types, and all of them mean this.
        raise ValueError(
            f"{path}: expected a complete .npy array of numbers, got {size} bytes that NumPy"
            f" refuses ({error}); write numbers, not objects, with numpy.save"
        ) from error
    if x.offset + x.nbytes != size:
        raise ValueError(
            f"{path}: expected one array of {x.offset + x.nbytes} bytes, got a file of {size};"
            " save several arrays with numpy.savez"
        )
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def read_npz(
    path: str | Path,
    *,
    array: str | None = None,
    labels: str | None = None,
    shape: tuple[int, ...] | None = None,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Examples and labels of a .npz file, in memory; `array` and `labels` name arrays in it.

    `array` may be left out where the file holds one array besides the labels. Labels are (n,) of
    integers or strings. `shape` is what the examples must have, where that is known. What the
    headers claim is compared before anything is read.

    Raises `OSError` when the file cannot be opened, and `ValueError` when it is not .npz or is
    damaged, when a name is missing or wrong (it lists the names), when an array holds Python
    objects, which are never unpickled, and when the labels do not fit the examples.
    """
    path = regular_file(path, _WANTED)
    with path.open("rb") as file:
        magic = file.read(4)
        if magic not in _ZIP_MAGIC:
            raise ValueError(
                f"{path}: expected a .npz archive, got a file that begins"
                f" {magic.hex(' ') or 'with nothing'}; write it with numpy.savez"
            )
        file.seek(0)
        try:
            archive: NpzFile = np.load(file, allow_pickle=False)
        except Exception as error:
            raise _damaged_npz(path, error) from error
        others = [name for name in archive.files if name != labels]
        if array is None and len(others) == 1:
            array = others[0]
        claims = [
            None if name is None else claim_of(path, archive, name) for name in (array, labels)
        ]
        if shape is not None and claims[0] is not None and claims[0].shape != shape:
            raise ValueError(
                f"{path}, array {array}: expected uint8 {shape}, got {claims[0].dtype}"
                f" {claims[0].shape}; fetch the data set again, or give other data by path"
            )
        if None not in claims:  # before either is read
            _check_labels(path, (array, labels), *claims)
        x = _member(path, archive, array, option="array")
        y = None if labels is None else _member(path, archive, labels, option="labels")
    if y is not None:
        _check_labels(path, (array, labels), x, y)
    return x, y


def _check_labels(path: Path, names: tuple[str | None, str | None], x: Any, y: Any) -> None:
    if y.dtype.kind not in "biuU" or y.shape != x.shape[:1]:
        raise ValueError(
            f"{path}: expected the labels {names[1]!r} to be integers or strings, one for each of"
            f" the examples {names[0]!r} {x.shape}, got {y.dtype} {y.shape}; convert them with"
            " astype, or name another array"
        )


def _member(path: Path, archive: NpzFile, name: str | None, *, option: str) -> NDArray[Any]:
    """One array of the archive, in native byte order."""
    if name not in archive.files:
        raise ValueError(
            f"{path}: expected `{option}` to name one of its arrays"
            f" ({', '.join(archive.files) or 'it has none'}), got {name!r}; pass one of these names"
        )
    try:
        x = archive[name]
        return x.astype(x.dtype.newbyteorder("="), copy=False)
    except Exception as error:  # a member that is no array comes as bytes, without a dtype
        raise _damaged_npz(path, error) from error


def _damaged_npz(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: expected a complete .npz archive of arrays, got {path.stat().st_size} bytes that"
        f" NumPy refuses ({error}); write numbers or strings, not objects, with numpy.savez"
    )
