"""Damaged files: python -m torture.files TIMES [SEED]

A reader gives a value or a `ValueError` that names the file, and nothing else; where there are
checksums, it gives what was written. Prints what does not, and how many files were tried and how
many were met as they must be.
"""

import contextlib
import gzip
import io
import random
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import hvax
from hvax.cli import main as hvax_main
from hvax.commands.directory import open_run, resumed_options
from hvax.data import load_source
from hvax.data.arrays import read_array
from hvax.data.idx import read_idx
from hvax.storage.checkpoint import Checkpoints
from hvax.storage.forms import read_record
from hvax.storage.logs import read_log
from hvax.storage.run_folder import RunFolder
from hvax.storage.structure import digest

X = np.arange(60, dtype=np.float32).reshape(12, 5) / 7
TRAIN = (
    "train digits --model vae --hidden 4 --latent-size 2 --epochs 1 --num-samples 2 "
    "--test-points 2 --no-progress --no-report --run-dir"
)


class Kind(NamedTuple):
    """A file of a folder and what reads it; `whole`: nothing but what was written may be read."""

    file: str
    read: Callable[[Path], Any]
    whole: bool = False


def write(folder: Path) -> None:
    """Every kind of file, as it should be."""
    header = bytes([0, 0, 0x0D, 2]) + struct.pack(">2I", *X.shape)
    (folder / "x.idx").write_bytes(header + X.astype(">f4").tobytes())
    (folder / "x.idx.gz").write_bytes(gzip.compress(header + X.astype(">f4").tobytes()))
    np.save(folder / "x.npy", X)
    np.savez(folder / "x.npz", x=X, y=np.arange(12))
    rows = "\n".join(",".join(f"{v:.4g}" for v in row) for row in X)
    (folder / "x.csv").write_text(f"a,b,c,d,e\n{rows}\n")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        assert hvax_main([*TRAIN.split(), str(folder / "run")]) == 0
    (folder / "run" / "skipped.jsonl").write_text('{"step": 3, "epoch": 1, "examples": [1]}\n' * 4)
    for step in (1, 2):
        Checkpoints(folder / "checkpoints").write(step, {"state": _tree()}, {"elbo": -np.inf})


def _tree() -> dict[str, jax.Array]:
    return {"w": jnp.full((3, 2), 0.1), "key": jax.random.key(4)}


def _read_model(folder: Path) -> Any:
    model = hvax.load(folder / "run" / "model")
    return digest(model), str(model)


def _read_checkpoint(folder: Path) -> Any:
    """The one before the latest holds the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Checkpoints(folder / "checkpoints").read({"state": _tree()})
    state, record = found.trees["state"], found.record
    return np.asarray(state["w"]).tobytes(), str(jax.random.key_data(state["key"])), record


KINDS = [
    Kind("x.idx", lambda folder: read_idx(folder / "x.idx")),
    Kind("x.idx.gz", lambda folder: read_idx(folder / "x.idx.gz")),
    Kind("x.npy", lambda folder: np.array(read_array(folder / "x.npy")[0])),
    Kind("x.npz", lambda folder: read_array(folder / "x.npz", array="x", labels="y")),
    Kind("x.csv", lambda folder: read_array(folder / "x.csv")),
    Kind("x.csv", lambda folder: load_source(str(folder / "x.csv"), labels="e")),
    Kind("run/config.json", lambda folder: resumed_options(folder / "run")),
    Kind("run/config.json", lambda folder: open_run(folder / "run")),
    Kind("run/metrics.jsonl", lambda folder: read_log(folder / "run" / "metrics.jsonl")),
    Kind("run/skipped.jsonl", lambda folder: RunFolder(folder / "run").go_back_to(20, [])),
    Kind("run/results.json", lambda folder: read_record(folder / "run" / "results.json")),
    Kind("run/model/structure.json", _read_model, whole=True),
    Kind("run/model/weights-*", _read_model, whole=True),
    Kind("checkpoints/000000000002.json", _read_checkpoint, whole=True),
    Kind("checkpoints/000000000002-state-*", _read_checkpoint, whole=True),
]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bits flipped, bytes put in, taken out, doubled, cut off, or others altogether."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, max(0, len(content) - 1))
        to = min(len(content), at + chance.randint(0, 40))
        some = chance.choice(
            [chance.randbytes(chance.randint(0, 8)), b"-1", b"9" * 30, b"NaN", b"null", b"[" * 9999]
        )
        flipped = bytes(byte ^ 1 << chance.randint(0, 7) for byte in content[at : at + 1])
        content = chance.choice(
            [
                content[:at] + flipped + content[at + 1 :],
                content[:at] + some + content[at:],
                content[:at] + some + content[to:],
                content[:to] + content[at:],
                content[:at],
                some,
            ]
        )
    return content


def failures(folder: Path, times: int, seed: int) -> Iterator[str | None]:
    """None for every damaged file that is met as it must be."""
    write(folder)
    for kind in KINDS:
        chance = random.Random(f"{seed} {kind.file}")
        (file,) = folder.glob(kind.file)
        original, expected = file.read_bytes(), kind.read(folder)
        for _ in range(times):
            content = damaged(original, chance)
            file.write_bytes(content)
            try:
                found = kind.read(folder)
            except ValueError as error:
                named = file.name in str(error) or file.suffix == ".safetensors"
                yield None if named else f"{kind.file} is not named: {error}; {content!r}"
            except Exception as error:
                yield f"{kind.file}: {type(error).__name__}: {error}; {content!r}"
            else:
                other = kind.whole and found != expected
                yield f"{kind.file} was read as another: {content!r}" if other else None
        file.write_bytes(original)


def main(times: int, seed: int = 0) -> int:
    with tempfile.TemporaryDirectory() as folder:
        found = list(failures(Path(folder), times, seed))
    wrong = [failure for failure in found if failure is not None]
    for failure in wrong[:20]:
        print(failure[:2000])
    print(f"{len(found)} {len(found) - len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
