"""One data set through the real program, through the library, and through the references."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tests.first_try import references
from tests.first_try.sets import DataSet
from tests.first_try.verdict import FEW

import hvax
from hvax.data import load_source, split
from hvax.data.check import holds_bits
from hvax.storage.run_folder import MODEL

RUNS = Path("build/first-try/runs")
LIMIT = 300  # seconds, after which a process is ended
MOST_COLUMNS = 200  # of a covariance matrix
_WARNING = re.compile(r"WARNING ([a-z][a-z-]+)")
_KEPT = ("elbo", "elbo_se", "nll", "nll_se", "trusted", "skipped", "epochs", "ended")


def run(data: DataSet) -> dict[str, Any]:
    """Everything that the table says of a data set."""
    data.written()
    folder = RUNS / data.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    record: dict[str, Any] = {"name": data.name, "messy": data.messy, "source": _source()}
    record["program"] = program(data, folder)
    refused = record["program"]["exit"] == 2
    if not (data.messy and refused):
        record["library"] = library(data, folder)
        columns = record["program"].get("columns")
        record["references"], record["shape"] = reference_scores(data, columns)
        if columns is not None:
            whole, shape = reference_scores(data)
            record |= {} if shape == record["shape"] else {"references_of_fit": whole}
    return record


def program(data: DataSet, folder: Path) -> dict[str, Any]:
    """`hvax train FILE` with nothing but what says where the data are in the file."""
    run_dir = folder / "run"
    chosen = [word for flag, value in data.options for word in (f"--{flag}", value)]
    command = [str(Path(sys.executable).with_name("hvax")), "train", str(data.file), *chosen]
    record = _timed([*command, "--run-dir", str(run_dir), "--no-progress"], folder, "program")
    said = record.pop("said")
    record["warnings"] = _WARNING.findall(said)
    record["said"] = [line for line in said.splitlines() if line.strip()][:40]
    config = run_dir / "config.json"
    if config.exists():
        record["columns"] = json.loads(config.read_text())["options"]["data"].get("columns")
    results = run_dir / "results.json"
    if results.exists():
        found = json.loads(results.read_text())
        for name in ("vae", "hvae"):
            record[name] = {key: found[name].get(key) for key in _KEPT} if name in found else None
        if "independent" in found:  # in the units that the program chose, transforms among them
            record["independent"] = -found["independent"]["nll"]
    if (run_dir / MODEL).exists():
        record.update(_of_the_model(data, run_dir / MODEL, record.get("columns")))
    return record


def _of_the_model(data: DataSet, path: Path, columns: list[str] | None) -> dict[str, Any]:
    """The family that the program chose, and where there are few test rows the ELBO of each."""
    model = hvax.load(path)
    likelihood = model.decoder.likelihood
    likelihood = getattr(likelihood, "inner", likelihood)
    found: dict[str, Any] = {"likelihood": type(likelihood).__name__}
    test = _parts(data, columns)[2]
    if len(test) < FEW:
        scores = hvax.evaluate(model, test, key=jax.random.key(0), progress=False)
        found["elbo_per_point"] = scores.per_point.elbo.tolist()
    return found


def library(data: DataSet, folder: Path) -> dict[str, Any]:
    """`hvax.fit` and `hvax.evaluate` by their defaults, in a process (library.py)."""
    out = folder / "library.json"
    module = [sys.executable, "-m", "tests.first_try.library", data.name, str(out)]
    record = _timed(module, folder, "library")
    said = record.pop("said")
    if out.exists():
        return record | json.loads(out.read_text())
    return record | {"warnings": [], "error": said[-500:]}


def reference_scores(
    data: DataSet, columns: list[str] | None = None
) -> tuple[dict[str, Any], list[int]]:
    """log p of each test row under every reference of each family that the data admit, and the
    shape of the whole: of some columns, or of all."""
    parts = _parts(data, columns)
    train, validation, test = (part.reshape(len(part), -1).astype(np.float64) for part in parts)
    shape = [sum(map(len, parts)), *parts[0].shape[1:]]
    found: dict[str, Any] = {}
    every = np.concatenate([train, validation, test])
    if holds_bits(every):
        found["Bernoulli"] = {"independent": _each(references.independent_bits(train), test)}
    if np.all(every == np.rint(every)) and every.min() >= 0:
        for name in ("NegativeBinomial", "Poisson"):
            found[name] = {"independent": _each(references.independent_counts(train), test)}
    real = {"independent": _each(references.independent_gaussian(train), test)}
    if train.shape[1] <= MOST_COLUMNS:
        gaussian, shrinkage = references.gaussian(train, validation)
        mixture, chosen = references.mixture(train, validation)
        real["gaussian"] = _each(gaussian, test) | {"shrinkage": shrinkage}
        real["mixture"] = _each(mixture, test) | {"chosen": chosen}
    found["LearnedGaussian"] = real
    return found, shape


def _each(density: references.Density, test: np.ndarray) -> dict[str, Any]:
    log_p = density(test)
    return {"mean": float(log_p.mean()), "per_point": log_p.tolist()}


def _parts(data: DataSet, columns: list[str] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, validation and test rows as `hvax train` takes them by default."""
    source = load_source(
        data.file,
        labels=data.option("labels"),
        array=data.option("array"),
        columns=None if columns is None else tuple(columns),
    )
    if source.scale != 1:
        raise ValueError(f"{data.name} holds gray levels as integers, for which no reference is.")
    parts = split(source)
    return source.x[parts.train], source.x[parts.validation], source.x[parts.test]


def _timed(command: list[str], folder: Path, name: str) -> dict[str, Any]:
    """Exit code (None where it took too long), seconds, and all that was said. Nothing is compiled
    before: at a first try the cache of compiled programs is empty."""
    cache = {"XDG_CACHE_HOME": str((folder / f"{name}-cache").absolute())}
    began = time.perf_counter()
    with (folder / f"{name}.log").open("w+") as log:
        try:
            code: int | None = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | cache, timeout=LIMIT
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        seconds = time.perf_counter() - began
        log.seek(0)
        said = log.read()
    shutil.rmtree(folder / f"{name}-cache", ignore_errors=True)
    return {"exit": code, "seconds": seconds, "said": said}


def _source() -> str:
    """The commit that is tried, with a + where files differ from it."""
    git = ["git", "describe", "--always", "--dirty=+"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
