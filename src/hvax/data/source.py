"""Sources of examples: four data sets by name, or a user's file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.data.arrays import SUFFIXES, read_array, read_npz
from hvax.data.check import check_array, check_examples, holds_bits
from hvax.data.header import Header
from hvax.data.idx import read_idx
from hvax.data.schema import Table
from hvax.data.table import Missing

SOURCES = ("digits", "mnist", "fashion-mnist", "binarized-mnist")


@dataclass(frozen=True, eq=False)
class Source:
    """Examples as stored, before any split, scaling or binarization.

    - `x`: an array (n, *x_shape) of uint8, other integers or floats, possibly memory-mapped.
    - `labels`: (n,) integers or strings, or None.
    - `scale`: models take `x / scale`.
    - `fixed`: the parts that the source itself fixes, as int64 indices by name (train, validation,
      test): all three, the test part, or none.
    - `num_validation`: how many other examples validate, if only the test part is fixed.
    """

    name: str
    x: NDArray[Any]
    labels: NDArray[Any] | None
    scale: float
    fixed: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    num_validation: int = 0
    feature_names: tuple[str, ...] | None = None  # of a table with a header
    notes: tuple[str, ...] = ()  # for the user: what was left out of the file
    rows: NDArray[np.int64] | None = None  # the file's rows in x, from 0; None is all
    header: bool | None = None  # whether the first line of a .csv file names the columns
    holes: bool = False  # whether NaN in x stands for a missing value
    table: Table | None = None  # the schema of a table whose columns are of several kinds

    def __post_init__(self) -> None:
        check_array(self.x, "x")

    @property
    def pool(self) -> NDArray[np.int64]:
        """The indices outside all fixed parts, ascending: those that a split may distribute."""
        free = np.ones(len(self.x), dtype=bool)
        for indices in self.fixed.values():
            free[indices] = False
        return np.flatnonzero(free)


def load_source(
    source: str | Path,
    *,
    data_dir: str | Path = "data",
    array: str | None = None,
    labels: str | None = None,
    columns: Sequence[str] | None = None,
    header: Header = "auto",
    missing: Missing = "keep",
) -> Source:
    """Load the source of a name (one of `SOURCES`), or else the file at a path.

    - digits: (1797, 8, 8) uint8 of 0..16, included in the package;
    - mnist, fashion-mnist: (70000, 28, 28) uint8, the last 10,000 of them the test part, from the
      four IDX files, gzipped or not, in `data_dir`/mnist (or /fashion-mnist) or `data_dir` itself;
    - binarized-mnist: (70000, 28, 28) uint8 of {0, 1}, all three parts fixed, from
      binarized_mnist.npz (train, valid and test, as packed bits) in `data_dir`/binarized_mnist or
      `data_dir` itself;
    - a path to .npy, .npz or .csv: see `read_array`, which explains `array`, `labels`,
      `columns`, `header` and `missing`; uint8 are gray levels of 0..255, unless all are 0 or 1.

    Raises `FileNotFoundError` (naming files and folders), `ValueError` for an unknown name, a
    damaged file, or `array`, `labels` and `columns` with a name, and what `read_array` and
    `check_examples` raise.
    """
    name = str(source)
    if name not in SOURCES:
        return _from_file(
            name, array=array, labels=labels, columns=columns, header=header, missing=missing
        )
    if array is not None or labels is not None or columns is not None:
        raise ValueError(
            f"`array`, `labels` and `columns` must be None with the source {name!r}, got {array!r},"
            f" {labels!r} and {columns!r}. Leave them out."
        )
    if name == "digits":
        here = Path(__file__).with_name("digits.npz")
        images, digits = read_npz(here, array="images", labels="labels")
        return Source(name, images, digits, scale=16.0)
    if name == "binarized-mnist":
        return _binarized_mnist(Path(data_dir))
    return _mnist(name, Path(data_dir))


def _from_file(
    name: str,
    *,
    array: str | None,
    labels: str | None,
    columns: Sequence[str] | None,
    header: Header,
    missing: Missing,
) -> Source:
    path = Path(name)
    if path.suffix.lower() not in SUFFIXES and not path.exists():
        raise ValueError(
            f"the source must be one of {', '.join(SOURCES)}, or the path of a file that ends in"
            f" {', '.join(SUFFIXES)}, got {name!r}. Check its spelling."
        )
    table = read_array(
        path, array=array, labels=labels, columns=columns, header=header, missing=missing
    )
    x = table.x
    holes = check_examples(x, name)
    if holes and missing == "drop" and path.suffix.lower() != ".csv":
        raise ValueError(
            f"{name} has missing values (NaN), and rows can only be dropped of a .csv file. Use "
            "--missing keep (`missing`), or leave them out of the file."
        )
    return Source(
        name,
        x,
        table.labels,
        255.0 if x.dtype == np.uint8 and not holds_bits(x) else 1.0,
        feature_names=table.names,
        notes=table.notes,
        rows=table.rows,
        header=table.header,
        holes=holes,
    )


def _mnist(name: str, data_dir: Path) -> Source:
    files = [
        f"{part}-{content}-ubyte"
        for part in ("train", "t10k")
        for content in ("images-idx3", "labels-idx1")
    ]
    expected = [(60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,)]
    paths = _find(name, (data_dir / name, data_dir), files, endings=("", ".gz"))
    arrays = [read_idx(path, shape=shape) for path, shape in zip(paths, expected, strict=True)]
    for path, stored, shape in zip(paths, arrays, expected, strict=True):
        _require(str(path), stored, shape)
    x, labels = np.concatenate(arrays[0::2]), np.concatenate(arrays[1::2])
    fixed = {"test": np.arange(60_000, 70_000)}
    return Source(name, x, labels, scale=255.0, fixed=fixed, num_validation=10_000)


def _binarized_mnist(data_dir: Path) -> Source:
    folders = (data_dir / "binarized_mnist", data_dir)
    (path,) = _find("binarized-mnist", folders, ["binarized_mnist.npz"], endings=("",))
    sizes = {"train": 50_000, "valid": 10_000, "test": 10_000}
    shapes = {part: (size, 28 * 28 // 8) for part, size in sizes.items()}
    packed = [read_npz(path, array=part, shape=shape)[0] for part, shape in shapes.items()]
    for bits, (part, shape) in zip(packed, shapes.items(), strict=True):
        _require(f"{path}, array {part}", bits, shape)
    x = np.unpackbits(np.concatenate(packed), axis=1).reshape(-1, 28, 28)
    train, validation, test = np.split(np.arange(70_000), [50_000, 60_000])
    fixed = {"train": train, "validation": validation, "test": test}
    return Source("binarized-mnist", x, None, scale=1.0, fixed=fixed)


def _find(
    name: str, folders: tuple[Path, ...], files: list[str], *, endings: tuple[str, ...]
) -> list[Path]:
    """The paths of all files, from the first folder that has them all."""
    lacks = []
    for folder in folders:
        candidates = [[folder / (file + ending) for ending in endings] for file in files]
        found = [[path for path in paths if path.is_file()] for paths in candidates]
        if all(found):
            return [paths[0] for paths in found]
        missing = [file for file, paths in zip(files, found, strict=True) if not paths]
        lacks.append(f"{folder} lacks {', '.join(missing)}")
    raise FileNotFoundError(
        f"the files of {name}{' (plain or .gz)' if '.gz' in endings else ''} must be in one folder,"
        f" but {'; '.join(lacks)}. Give their folder with --data-dir (`data_dir`)."
    )


def _require(where: str, stored: NDArray[Any], shape: tuple[int, ...]) -> None:
    if stored.shape != shape or stored.dtype != np.uint8:
        raise ValueError(
            f"{where} must be uint8 {shape}, got {stored.dtype} {stored.shape}."
            " Fetch the data set again, or give other data by path."
        )
