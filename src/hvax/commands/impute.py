"""`hvax impute`: the missing values of a file filled in, every other cell as it was."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvax.commands.directory import Run, open_run
from hvax.commands.inputs import Selected, at_least_one, new_file, run_data, seed_key, write_whole
from hvax.config import Impute
from hvax.data.column import Column
from hvax.data.fill import as_text, csv_text, fill_csv, uses_comma
from hvax.evaluation.imputation import Imputed, impute
from hvax.pipeline.imputed_table import cells_of
from hvax.storage.files import write_atomically


def impute_run(config: Impute) -> int:
    """Run the command; returns its exit code."""
    at_least_one(draws=config.draws)
    widest = 1 - 2 / (config.draws + 1)
    if not 0 < config.level <= widest:
        raise ValueError(
            f"--level must be > 0 and with --draws {config.draws} at most {widest:.4g}, got "
            f"{config.level}. Use more draws for wider intervals."
        )
    key = seed_key(config.seed)
    run = open_run(config.run)
    source = config.source or config.own_data.source or run.config.source
    suffix = ".csv" if Path(source).suffix.lower() == ".csv" else ".npy"
    for out, suffixes in ((config.out, (suffix,)), (config.cells, (".csv",))):
        if out is not None:
            new_file(out, suffixes, overwrite=config.overwrite)
    data = run_data(run, source, config.file, config.own_data, empty_rows=True)
    if not data.examples.holes:
        raise ValueError(
            f"{source} has no missing values in the columns of {run.path}: there is nothing to "
            "impute."
        )
    found = impute(
        run.model, data.examples, key=key, num_draws=config.draws, progress=config.progress
    )
    columns = _columns(run, data)
    if suffix == ".csv":
        text = _filled(Path(source), found, columns, data, header=_header(config, run))
        write_atomically(config.out, text.encode())
    else:
        write_whole(config.out, lambda file: np.save(file, found.mean))
    rows = int(found.missing.reshape(len(found.x), -1).any(axis=1).sum())
    count = int(found.missing.sum())
    print(f"{config.out}: {count} values imputed, in {rows} of {len(found.x)} rows")
    if config.cells is not None:
        _write_cells(config.cells, found, columns, data.rows, config.level)
        print(f"{config.cells}: one row for each of them")
    return 0


def _columns(run: Run, data: Selected) -> list[Column | str]:
    """The modeled columns: by their schema, or by the names of numbers."""
    if run.table is not None:
        return list(run.table.modeled)
    names = data.examples.names
    if names is None:
        names = tuple(str(i) for i in range(int(np.prod(data.examples.x_shape))))
    return list(names)


def _filled(
    source: Path, found: Imputed, columns: list[Any], data: Selected, *, header: Any
) -> str:
    """The file's text with the imputed values in its missing cells."""
    comma, mean = uses_comma(source), found.mean
    whole = [_is_whole(column, found.x[:, j]) for j, column in enumerate(columns)]
    schema = [None if isinstance(column, str) else column for column in columns]
    cells = {
        (int(data.rows[row]), int(j)): as_text(
            float(mean[row, j]), schema[j], whole=whole[j], comma=comma
        )
        for row, j in np.argwhere(found.missing)
    }
    names = [column if isinstance(column, str) else column.name for column in columns]
    return fill_csv(source, names, cells, header=header)


def _is_whole(column: Column | str, x: NDArray[Any]) -> bool:
    """Whether a column holds integers, so that imputed ones are rounded."""
    if isinstance(column, Column):
        return column.is_integer or column.kind == "count"
    seen = x[~np.isnan(x)]
    return bool(np.all(seen == np.rint(seen)))


def _header(config: Impute, run: Run) -> Any:
    return config.file.header or run.config.data.header


def _write_cells(
    path: Path, found: Imputed, columns: list[Any], rows: NDArray[np.int64], level: float
) -> None:
    table = cells_of(found, columns, level)
    table["row"] = [int(rows[row]) for row in table["row"]]
    columns = [[_text(value) for value in column] for column in table.values()]
    write_atomically(path, csv_text(list(table), columns).encode())


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
