"""Run directories for tests of the commands, and what is compared of them."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tyro

import hvax
from hvax.commands.build import decided, own_parts, run_vae
from hvax.commands.directory import run_directory
from hvax.config import Train
from hvax.data import Examples

FEW = "--num-samples 5 --points 10 --no-progress"
AIS_FEW = "--ais --ais-points 2 --ais-temperatures 50 --ais-chains 2 --ais-leapfrog 1"
SMALL = "--model vae --hidden 8 --latent-size 2"
# Each on a run, with where it writes.
COMMANDS = {
    "evaluate": f"evaluate {{}} {FEW} --per-point new.npy",
    "encode": "encode {} --no-progress --out new.npz",
    "reconstruct": "reconstruct {} --no-progress --out new.npy",
    "sample": "sample {} --out new.npy",
    "report": "report {} --out new.html",
}
ON_OTHER_DATA = ("evaluate", "encode", "reconstruct")
ON_OWN_DATA = (*ON_OTHER_DATA, "report", "sample --mixture 2", "sample --between 0 1")


def on_run(command: str, run: str = "run") -> str:
    """A command of `COMMANDS` on a run, with the options behind its name."""
    name, *options = command.split()
    return " ".join([COMMANDS[name].format(run), *options])


def untrained(arguments: str, folder: Path = Path("other")) -> None:
    """A run directory as `hvax train` makes it, but for the training: a model and no numbers."""
    config = tyro.cli(Train, args=arguments.split(), config=(tyro.conf.OmitArgPrefixes,))
    with jax.enable_x64(config.train.x64):
        parts = own_parts(config)
        config = decided(config, parts)
        with run_directory(dataclasses.replace(config, run_dir=folder), parts):
            hvax.save(run_vae(config, parts, key=jax.random.key(0)), folder / "model")


def digits_test() -> tuple[Examples, np.ndarray]:
    """The test part of digits as a run sees it, and its labels."""
    parts = hvax.load_parts("digits")
    return parts.test, parts.test_labels


def bits(n: int) -> np.ndarray:
    """Noise of the digits' shape."""
    return np.random.default_rng(0).integers(0, 2, (n, 8, 8)).astype(np.float32)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path in a folder, with the bytes of those that are files."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def read_json(path: str | Path):
    """JSON as other programs read it: NaN and Infinity are no JSON."""
    return json.loads(Path(path).read_text(), parse_constant=pytest.fail)


def load_npz(name: str | Path) -> dict[str, np.ndarray]:
    with np.load(name) as file:
        return dict(file)


# Damage


def write(name: str, content: bytes):
    return lambda run: (run / name).write_bytes(content)


def cut(name: str):
    def change(run: Path) -> None:
        (path,) = run.glob(name)
        path.write_bytes(path.read_bytes()[:-9])

    return change


def remove(name: str):
    def change(run: Path) -> None:
        (path,) = run.glob(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


MISSING = object()


def edit(**changes):
    """Changes config.json, at keys joined by two underscores."""

    def change(run: Path) -> None:
        record = read_json(run / "config.json")
        for keys, value in changes.items():
            *outer, last = keys.split("__")
            inner = record
            for key in outer:
                inner = inner[key]
            inner[last] = value
            if value is MISSING:
                del inner[last]
        (run / "config.json").write_text(json.dumps(record))

    return change
