"""scanpy's bundled cells (10x PBMC, 700 cells x 765 genes) as counts.

    python cells.py IN.h5ad OUT.npz     # with an interpreter that has h5py

The file holds log(1 + count * factor of the cell), not counts. The factor is undone: expm1, divided
by the least nonzero number of the cell (a count of 1 in every cell of hundreds of genes), rounded.
Rounding changes a count by 0.12% at most; beyond 1% the script refuses the file.
"""

import itertools
import sys

import h5py
import numpy as np


def counts(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Counts (cells, genes), names of genes, cell types, and the largest relative rounding."""
    with h5py.File(path) as file:
        data, index, start = (file["raw.X"][name][:] for name in ("data", "indices", "indptr"))
        genes = file["raw.var"][:]["index"].astype(str)
        types = file["uns/bulk_labels_categories"][:].astype(str)
        labels = types[file["obs"][:]["bulk_labels"]]
    x, worst = np.zeros((len(start) - 1, len(genes)), np.int64), 0.0
    for cell, (a, b) in enumerate(itertools.pairwise(start)):
        values = np.expm1(data[a:b].astype(np.float64))
        ratio = values / values.min()
        whole = np.rint(ratio)
        worst = max(worst, float(np.max(np.abs(ratio - whole) / whole)))
        x[cell, index[a:b]] = whole
    return x, genes, labels, worst


if __name__ == "__main__":
    x, genes, labels, worst = counts(sys.argv[1])
    if worst > 0.01:
        sys.exit(f"{sys.argv[1]}: counts are off by {worst:.1%}: the file holds something else")
    np.savez(sys.argv[2], counts=x, genes=genes, cell_type=labels)
