"""Real tables that scikit-learn, palmerpenguins, scanpy, statsmodels and vega_datasets ship."""

import io
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
from tests.first_try.files import read_columns, write_csv, write_npz, write_table
from tests.first_try.wheels import python_with_h5py, read_packaged

PACKAGES = Path("build/first-try/packages")


def bundled(name: str, path: Path, *, target: bool = False) -> None:
    """A table of scikit-learn's; with `target`, a last column of the class names or numbers."""
    data: Any = getattr(sklearn.datasets, f"load_{name}")()
    names = [feature.replace("pixel_", "pixel ") for feature in data.feature_names]
    x = data.data
    if name in ("digits", "linnerud"):
        x = x.astype(np.int64)
    if name == "linnerud":
        names, x = names + list(data.target_names), np.hstack([x, data.target.astype(np.int64)])
    labels = None
    if target:
        named = name not in ("diabetes", "digits")
        classes = [data.target_names[i] if named else i for i in data.target.tolist()]
        labels = ("target", classes)
    write_table(path, names, x, labels)


def target_left_in(path: Path) -> None:
    """iris with its class as a number among the measurements, as many people keep it."""
    data: Any = sklearn.datasets.load_iris()
    x = np.column_stack([data.data, data.target])
    write_table(path, [*data.feature_names, "target"], x)


def patches(path: Path) -> None:
    """Gray patches, 8 x 8, of the two photographs that scikit-learn ships, as float32 in [0, 1]."""
    photos: Any = sklearn.datasets.load_sample_images()
    rng = np.random.default_rng(1)
    found, names = [], []
    for image, name in zip(photos.images, ("china", "flower"), strict=True):
        gray = image.mean(-1) / 255
        for _ in range(1500):
            row, column = (int(rng.integers(0, size - 8)) for size in gray.shape)
            found.append(gray[row : row + 8, column : column + 8])
            names.append(name)
    order = rng.permutation(len(found))
    write_npz(path, patches=np.stack(found)[order].astype(np.float32), photo=np.array(names)[order])


def shipped(
    package: str,
    name: str,
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    whole: bool = False,
) -> None:
    """A .csv of a package's, as it is (`whole`), or some columns of it without missing cells."""
    text = read_packaged(package, name, PACKAGES).decode("utf-8")
    if whole:
        path.write_text(text, encoding="utf-8")
    else:
        write_csv(path, *read_columns(text, columns))


def cars(path: Path) -> None:
    """The numbers of the cars of vega_datasets that have all of them."""
    records = json.loads(read_packaged("vega_datasets", "_data/cars.json", PACKAGES))
    names = ["Miles_per_Gallon", "Displacement", "Horsepower", "Weight_in_lbs", "Acceleration"]
    rows = [[record[name] for name in names] for record in records]
    write_csv(path, names, [row for row in rows if None not in row])


def pbmc(path: Path) -> None:
    """scanpy's bundled cells as counts (see cells.py), with the names of the genes."""
    archive = read_packaged("scanpy", "datasets/10x_pbmc68k_reduced.h5ad", PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        stored, counts = Path(folder, "cells.h5ad"), Path(folder, "counts.npz")
        stored.write_bytes(archive)
        script = Path(__file__).with_name("cells.py")
        subprocess.run([python_with_h5py(), script, stored, counts], check=True)
        with np.load(io.BytesIO(counts.read_bytes())) as file:
            labels = ("cell_type", file["cell_type"].tolist())
            write_table(path, file["genes"].tolist(), file["counts"], labels)
