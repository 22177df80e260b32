"""Reading users' files (.npy, .npz, .csv): examples and, if the file has them, labels.

Nothing is ever unpickled. A missing file raises `FileNotFoundError`, a directory
`IsADirectoryError`, an unreadable file `PermissionError`. Anything wrong inside a file is a
`ValueError` that names the file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from hvax.data.claims import claim_of, regular_file
from hvax.data.header import Header
from hvax.data.table import FileContent, Missing, read_csv

SUFFIXES = (".npy", ".npz", ".csv")
_WANTED = f"a file that ends in {', '.join(SUFFIXES)}"
_ZIP_MAGIC = (b"PK\3\4", b"PK\5\6")  # the second is that of an empty archive


def read_array(
    path: str | Path,
    *,
    array: str | None = None,
    labels: str | None = None,
    columns: Sequence[str] | None = None,
    header: Header = "auto",
    missing: Missing = "keep",
) -> FileContent:
    """Examples (n, ...) and labels (n,) or None of a .npy, .npz or .csv file.

    `array`, `labels`, `columns`, `header` and `missing` say what is read of the file: see
    `read_npz` and `read_csv`.

    Raises `OSError` if the file cannot be opened, and `ValueError` for anything wrong inside it,
    for another suffix, and for an option that does not apply to the format.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        regular_file(path, _WANTED)
        raise ValueError(
            f"{path} must be a file that ends in {', '.join(SUFFIXES)}, got {suffix!r}."
            " Convert the file."
        )
    if array is not None and suffix != ".npz":
        raise ValueError(
            f"{path}: `array` must be None unless the file is .npz, got {array!r}. Leave it out."
        )
    if suffix == ".csv":
        table = regular_file(path, _WANTED)
        return read_csv(table, labels=labels, columns=columns, header=header, missing=missing)
    if columns is not None:
        raise ValueError(
            f"{path}: `columns` must be None unless the file is .csv, got {', '.join(columns)}."
            " Leave them out."
        )
    if header != "auto":
        raise ValueError(
            f"{path}: `header` must be auto unless the file is .csv, got {header!r}. Leave it out."
        )
    if suffix == ".npz":
        return FileContent(*read_npz(path, array=array, labels=labels))
    if labels is not None:
        raise ValueError(
            f"{path}: `labels` must be None with a .npy file, which holds one array, got"
            f" {labels!r}. Save both arrays with numpy.savez and give the .npz file."
        )
    return FileContent(read_npy(path), None)


def read_npy(path: str | Path) -> NDArray[Any]:
    """The array of a .npy file, memory-mapped; copied to memory if its byte order is not native.

    Raises `OSError` if the file cannot be opened, and `ValueError` if it is not .npy, is truncated,
    or holds several arrays or Python objects, which are never unpickled.
    """
    path = regular_file(path, _WANTED)
    size = path.stat().st_size
    try:
        x = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        # NumPy raises a dozen types of error for damaged bytes.
        raise ValueError(
            f"{path} must be a complete .npy array of numbers, got {size} bytes that NumPy"
            f" refuses ({error}). Write numbers, not objects, with numpy.save."
        ) from error
    if x.offset + x.nbytes != size:
        raise ValueError(
            f"{path} must hold one array of {x.offset + x.nbytes} bytes, got a file of {size}."
            " Save several arrays with numpy.savez."
        )
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def read_npz(
    path: str | Path,
    *,
    array: str | None = None,
    labels: str | None = None,
    shape: tuple[int, ...] | None = None,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Examples (n, ...) and labels (n,) of a .npz file, in memory.

    `array` and `labels` are names of arrays in the file; `array` may be None if the file holds one
    array besides the labels. Labels are integers or strings. `shape`, if given, is the one that the
    examples must have. Headers are checked before anything is read.

    Raises `OSError` if the file cannot be opened, and `ValueError` if it is not .npz or is damaged,
    if a name is missing or wrong (the error lists the names), if an array holds Python objects,
    which are never unpickled, and if the labels do not fit the examples.
    """
    path = regular_file(path, _WANTED)
    with path.open("rb") as file:
        magic = file.read(4)
        if magic not in _ZIP_MAGIC:
            raise ValueError(
                f"{path} must be a .npz archive, got a file that begins"
                f" {magic.hex(' ') or 'with nothing'}. Write it with numpy.savez."
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
                f"{path}, array {array}, must be uint8 {shape}, got {claims[0].dtype}"
                f" {claims[0].shape}. Fetch the data set again, or give other data by path."
            )
        if None not in claims:  # a mismatch is reported before either array is read
            _check_labels(path, (array, labels), *claims)
        x = _member(path, archive, array, option="array")
        y = None if labels is None else _member(path, archive, labels, option="labels")
    if y is not None:
        _check_labels(path, (array, labels), x, y)
    return x, y


def _check_labels(path: Path, names: tuple[str | None, str | None], x: Any, y: Any) -> None:
    if y.dtype.kind not in "biuU" or y.shape != x.shape[:1]:
        raise ValueError(
            f"{path}: the labels {names[1]!r} must be integers or strings, one for each of"
            f" the examples {names[0]!r} {x.shape}, got {y.dtype} {y.shape}. Convert them with"
            " astype, or name another array."
        )


def _member(path: Path, archive: NpzFile, name: str | None, *, option: str) -> NDArray[Any]:
    """One array of the archive, in native byte order."""
    if name not in archive.files:
        raise ValueError(
            f"{path}: `{option}` must name one of its arrays"
            f" ({', '.join(archive.files) or 'it has none'}), got {name!r}. Give one of these"
            " names."
        )
    try:
        x = archive[name]
        return x.astype(x.dtype.newbyteorder("="), copy=False)
    except Exception as error:  # a member that is no array is returned as bytes
        raise _damaged_npz(path, error) from error


def _damaged_npz(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} must be a complete .npz archive of arrays, got {path.stat().st_size} bytes that"
        f" NumPy refuses ({error}). Write numbers or strings, not objects, with numpy.savez."
    )
