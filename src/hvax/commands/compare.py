"""`hvax compare`: several runs scored on the same data points with the same draws."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from hvax.commands.directory import Run, open_run
from hvax.commands.inputs import at_least_one, new_file, seed_key
from hvax.commands.same_data import same_data
from hvax.config import Compare
from hvax.data.examples import Examples, subsample
from hvax.evaluation.compare import Compared, compare
from hvax.evaluation.result import Evaluation
from hvax.evaluation.table import gray_warning, note, untrusted_advice
from hvax.storage.files import write_atomically
from hvax.storage.forms import read_record
from hvax.storage.run_folder import BASELINE, CONFIG, RESULTS

_DENSITIES = {"gaussian", "fixed-gaussian"}
_SCORES = (
    "num_points", "num_samples", "elbo", "elbo_se", "nll", "nll_se", "nll_mc_se", "trusted",
    "ess_median", "kl", "active_units", "latent_size", "reconstruction_nll", "reconstruction_rmse",
)  # fmt: skip
_POINT = ("elbo", "log_p", "ess", "k_hat")


class Scored(NamedTuple):
    """A run and its numbers."""

    name: str  # as it was given
    model: str
    scores: Evaluation
    less_first: dict[str, float] | None  # the paired difference to the first; None of the first
    parameters: int
    seconds: float | None  # of training; None where results.json does not say


def compare_runs(config: Compare) -> int:
    """The program's `compare`; its exit code.

    Raises `ValueError` for fewer than two runs and for runs of other data, before any work.
    """
    at_least_one(num_samples=config.num_samples, points=config.points)
    key = jax.random.split(seed_key(config.seed))[0]  # the draws of `hvax evaluate`
    for path in (config.out, config.per_point):
        if path is not None:
            new_file(path, (".csv",), overwrite=config.overwrite)
    runs = [open_run(path) for path in _paths(config)]
    data, _, places = same_data(runs, config)
    chosen = subsample(Examples(np.arange(len(data))), config.points)[:]
    x = data if len(chosen) == len(data) else subsample(data, config.points)
    compared = compare(
        {str(run.path): run.model for run in runs},
        x,
        key=key,
        num_samples=config.num_samples,
        progress=config.progress,
    )
    scored = [_of(run, compared[str(run.path)]) for run in runs]
    for run in scored:
        note(run.scores, untrusted_advice(run.scores, Path(run.name), about=run.name))
    print(table(scored, "test points" if config.data is None else f"points of {config.data}"))
    for text in _notes(runs, scored):
        print(text)
    _write(config.out, _run_rows(scored))
    _write(config.per_point, _point_rows(scored, chosen, places[chosen]))
    return 0


def table(scored: Sequence[Scored], points: str) -> str:
    """The runs in lines, and below them their differences to the first."""
    first = scored[0]
    heads = ("run", "model", "ELBO", f"NLL ({first.scores.num_samples} samples)")
    cells = [(*heads, "parameters", "seconds")]
    for run in scored:
        e, seconds = run.scores, "-" if run.seconds is None else f"{run.seconds:.1f}"
        bounds = _pm(e.elbo, e.elbo_se), _pm(e.nll, e.nll_se)
        cells.append((run.name, run.model, *bounds, f"{run.parameters:,}", seconds))
    for run in scored[1:]:
        apart = run.less_first or {}
        bounds = _apart(apart, "elbo"), _apart(apart, "nll")
        cells.append((run.name, run.model, *bounds, "", ""))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]
    title = f"On {first.scores.num_points} {points}, in nats, +- one standard error over points:"
    below = ["", f"Less {first.name}, point by point:"]
    return "\n".join([title, *lines[: len(scored) + 1], *below, *lines[len(scored) + 1 :]])


def _paths(config: Compare) -> list[Path]:
    """The directories to open, each once."""
    found: dict[str, Path] = {}
    for path in config.runs:
        found.setdefault(os.path.realpath(path), path)
        beside = path / BASELINE
        if config.baseline and beside.is_dir():
            found.setdefault(os.path.realpath(beside), beside)
    if len(found) < 2:
        raise ValueError(
            f"hvax compare needs two runs or more, got {len(found)}; --baseline adds the plain VAE "
            "beside each run that has one."
        )
    return list(found.values())


def _of(run: Run, compared: Compared) -> Scored:
    model = run.config.model.model
    return Scored(
        name=str(run.path),
        model=(run.config.flow.flow if model == "hvae" else model).upper(),
        scores=compared.scores,
        less_first=compared.difference,
        parameters=compared.parameters,
        seconds=_seconds(run, model),
    )


def _seconds(run: Run, model: str) -> float | None:
    folder = run.path if (run.path / CONFIG).is_file() else run.path.absolute().parent
    if not (folder / RESULTS).is_file():
        return None
    row = read_record(folder / RESULTS).get(model)
    seconds = row.get("seconds_training") if isinstance(row, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else None


def _notes(runs: Sequence[Run], scored: Sequence[Scored]) -> list[str]:
    """What stands against the numbers; of NLLs not to be trusted, the advice on the worst."""
    said = []
    kinds = sorted({run.config.model.likelihood or "" for run in runs})
    if 0 < len(_DENSITIES.intersection(kinds)) < len(kinds):
        said.append(
            f"note: densities and probabilities are compared ({', '.join(kinds)}): at whole\n"
            "numbers a density is about the probability of each, elsewhere it is not."
        )
    if any(run.scores.gray for run in scored):
        said.append(gray_warning())
    untrusted = [run for run in scored if not run.scores.trusted]
    if untrusted:
        worst = max(untrusted, key=lambda run: run.scores.untrusted)
        advice = untrusted_advice(worst.scores, Path(worst.name), about=worst.name)
        said.append(f"WARNING {advice}")
        others = [run.name for run in untrusted if run is not worst]
        if others:
            said.append(f"The NLL is not to be trusted either of: {', '.join(others)}")
    return said


def _run_rows(scored: Sequence[Scored]) -> list[list[Any]]:
    apart = ("elbo", "elbo_se", "nll", "nll_se")
    named = ("elbo_less_first", "elbo_less_first_se", "nll_less_first", "nll_less_first_se")
    rows: list[list[Any]] = [["run", "model", *_SCORES, *named, "parameters", "seconds_training"]]
    for run in scored:
        numbers, less = run.scores.to_dict(), run.less_first or {}
        rows.append([run.name, run.model, *(numbers[name] for name in _SCORES)])
        rows[-1] += [*(less.get(name) for name in apart), run.parameters, run.seconds]
    return rows


def _point_rows(
    scored: Sequence[Scored], chosen: NDArray[np.int64], places: NDArray[np.int64]
) -> list[list[Any]]:
    """`chosen` are the points' places in the test part, or among the examples of --data, and
    `places` their rows in the file."""
    rows: list[list[Any]] = [["run", "point", "row", *_POINT]]
    for run in scored:
        columns = [getattr(run.scores.per_point, name).tolist() for name in _POINT]
        numbers = chosen.tolist(), places.tolist()
        rows += [[run.name, *row] for row in zip(*numbers, *columns, strict=True)]
    return rows


def _write(path: Path | None, rows: Iterable[Sequence[Any]]) -> None:
    if path is None:
        return
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    # A path may hold bytes that are no UTF-8.
    write_atomically(path, text.getvalue().encode(errors="backslashreplace"))
    print(f"{path} written")


def _pm(value: float, error: float) -> str:
    digits = 2 if abs(value) < 1e6 else 0
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def _apart(numbers: dict[str, float], name: str) -> str:
    return f"{numbers[name]:+.3f} +- {numbers[f'{name}_se']:.3f}"
