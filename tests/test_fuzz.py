"""Damaged files: a reader gives a value or a `ValueError` that names the file, and nothing else;
where there are checksums, it gives what was written."""

import gzip
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hvax
from hvax.commands.directory import open_run, read_json, read_metrics, resumed_options
from hvax.data import load_source
from hvax.data.arrays import read_array
from hvax.data.idx import read_idx
from hvax.training.checkpoint import Checkpoints
from hvax.training.folder import RunFolder
from models_for_tests import in_bits
from runs_for_tests import SMALL, untrained

X = np.arange(60, dtype=np.float32).reshape(12, 5) / 7
EXAMPLES = 150


class Kind(NamedTuple):
    """A file of a folder, what writes the folder, what reads it; `whole`: nothing but what was
    written may be read."""

    file: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    whole: bool = False


def write_idx(folder):
    header = bytes([0, 0, 0x0D, 2]) + struct.pack(">2I", *X.shape)
    (folder / "x.idx").write_bytes(header + X.astype(">f4").tobytes())
    (folder / "x.idx.gz").write_bytes(gzip.compress(header + X.astype(">f4").tobytes()))


def write_arrays(folder):
    np.save(folder / "x.npy", X)
    np.savez(folder / "x.npz", x=X, y=np.arange(12))
    rows = "\n".join(",".join(f"{v:.4g}" for v in row) for row in X)
    (folder / "x.csv").write_text(f"a,b,c,d,e\n{rows}\n")


def write_run(folder):
    untrained(f"digits {SMALL}", folder / "run")
    lines = "".join(f'{{"epoch": {i}, "step": {9 * i}, "elbo": -4.5}}\n' for i in range(5))
    for name in ("metrics.jsonl", "skipped.jsonl", "results.json"):
        (folder / "run" / name).write_text(lines if "jsonl" in name else lines.split("\n")[0])


def write_model(folder):
    vae = hvax.VAE(*hvax.mlp((5,), 2, hidden=(3,), key=jax.random.key(0)))
    hvax.save(hvax.HVAE(vae, hvax.HamiltonianFlow(2)), folder)


def read_model(folder):
    model = hvax.load(folder)
    return in_bits(model), str(model)


def write_checkpoints(folder):
    for step in (1, 2):
        tree = {"w": jnp.full((3, 2), 0.1), "key": jax.random.key(4)}
        Checkpoints(folder).write(step, {"state": tree}, {"position": {"elbo": -jnp.inf}})


def read_checkpoint(folder):
    """The one before the latest holds the same."""
    tree = {"w": jnp.zeros((3, 2)), "key": jax.random.key(0)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trees, record = Checkpoints(folder).read({"state": tree})
    return in_bits(trees), record


def read_skipped(folder):
    RunFolder(folder / "run").go_back_to(20, [])


KINDS = [
    Kind("x.idx", write_idx, lambda folder: read_idx(folder / "x.idx")),
    Kind("x.idx.gz", write_idx, lambda folder: read_idx(folder / "x.idx.gz")),
    Kind("x.npy", write_arrays, lambda folder: np.array(read_array(folder / "x.npy")[0])),
    Kind("x.npz", write_arrays, lambda folder: read_array(folder / "x.npz", array="x", labels="y")),
    Kind("x.csv", write_arrays, lambda folder: read_array(folder / "x.csv")),
    Kind("x.csv", write_arrays, lambda folder: load_source(str(folder / "x.csv"))),
    Kind("x.csv", write_arrays, lambda folder: read_array(folder / "x.csv", labels="e")),
    Kind("run/config.json", write_run, lambda folder: resumed_options(folder / "run")),
    Kind("run/config.json", write_run, lambda folder: open_run(folder / "run")),
    Kind("run/metrics.jsonl", write_run, lambda folder: read_metrics(folder / "run/metrics.jsonl")),
    Kind("run/skipped.jsonl", write_run, read_skipped),
    Kind("run/results.json", write_run, lambda folder: read_json(folder / "run/results.json")),
    Kind("structure.json", write_model, read_model, whole=True),
    Kind("weights-*", write_model, read_model, whole=True),
    Kind("000000000002.json", write_checkpoints, read_checkpoint, whole=True),
    Kind("000000000002-state-*", write_checkpoints, read_checkpoint, whole=True),
]


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """Bits flipped, bytes put in, taken out, doubled, cut off, or others altogether."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        to = draw(st.integers(at, min(len(content), at + 40)))
        some = draw(st.binary(max_size=8) | st.sampled_from([b"-1", b"9" * 30, b"NaN", b"null"]))
        content = draw(
            st.sampled_from(
                [
                    content[:at] + bytes(b ^ 1 << at % 8 for b in content[at : at + 1])
                    + content[at + 1 :],
                    content[:at] + some + content[at:],
                    content[:at] + some + content[to:],
                    content[:to] + content[at:],
                    content[:at],
                    some,
                ]
            )
        )  # fmt: skip
    return content


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.file)
def test_a_damaged_file(kind, tmp_path):
    """Seen to fail on a structure.json without a checksum (other options of a layer), and on JSON
    nested too deeply."""
    kind.write(tmp_path)
    (file,) = tmp_path.glob(kind.file)
    original, expected = file.read_bytes(), kind.read(tmp_path)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(original))
    def check(content):
        file.write_bytes(content)
        try:
            found = kind.read(tmp_path)
        except ValueError as error:
            assert file.name in str(error) or file.suffix == ".safetensors", error
        else:
            assert not kind.whole or found == expected

    check()


@pytest.mark.parametrize("name", ["run/config.json", "run/metrics.jsonl", "run/results.json"])
def test_json_without_an_end_of_its_depth(name, tmp_path):
    write_run(tmp_path)
    (tmp_path / name).write_bytes((b"[" * 10**5 + b"\n") * 2)
    (kind, *_) = [kind for kind in KINDS if kind.file == name]
    with pytest.raises(ValueError, match=f"{Path(name).name} is damaged.*nested too deeply"):
        kind.read(tmp_path)
