"""Files that are none, change under the reader, or claim more than they hold."""

import gzip
import io
import os
import resource
import struct
import zipfile

import numpy as np
import pytest

from hvax.data import claims
from hvax.data.check import check_examples
from hvax.data.examples import Examples
from hvax.data.idx import read_idx
from hvax.data.source import load_source


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_refused(suffix, kind, tmp_path):
    """A pipe was waited for, and a device without an end was read until memory was full."""
    path = tmp_path / f"x{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=rf"must be a file .*, got a {kind}\. Copy its content"):
        load_source(path)
    with pytest.raises(ValueError, match=f"must be a file, got a {kind}"):
        read_idx(path)


def test_a_line_without_an_end_is_no_table(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"a,b\n" + b"1" * (2**24 + 5))
    with pytest.raises(ValueError, match="a line of more than 16777216 characters"):
        load_source(path)


def test_a_mapped_file_that_was_cut_short_is_an_error(tmp_path):
    """To read behind its end is SIGBUS."""
    path = tmp_path / "x.npy"
    np.save(path, np.arange(200_000.0).reshape(-1, 2))
    source = load_source(path)
    examples = Examples(source.x)
    assert examples[:2].shape == (2, 2)
    os.truncate(path, 4096)
    with pytest.raises(OSError, match=r"x.npy was replaced or cut short while it was in use"):
        examples[np.array([99_999])]
    with pytest.raises(OSError, match="cut short"):
        check_examples(source.x)
    path.unlink()  # what was mapped stays, but for what was cut
    assert examples[:2].shape == (2, 2)


def npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (header, size) in members.items():
            buffer = io.BytesIO()
            np.lib.format.write_array_header_1_0(buffer, header)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(buffer.getvalue())
                for _ in range(size >> 20):
                    member.write(bytes(1 << 20))
                member.write(bytes(size % (1 << 20)))


def header(*shape, dtype="<f4"):
    return {"descr": dtype, "fortran_order": False, "shape": shape}


def test_a_header_that_claims_more_than_there_is_costs_no_memory(tmp_path):
    path = tmp_path / "x.npz"
    npz(path, x=(header(10**9, 100), 4000))
    with pytest.raises(ValueError, match="its header claims, got an archive that holds at most"):
        load_source(path)


def test_what_does_not_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    npz(path, x=(header(1 << 18, 256), 1 << 28), y=(header(3, dtype="<i8"), 24))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="the labels 'y' must be integers"):
        load_source(path, array="x", labels="y")
    monkeypatch.setattr(claims, "_memory", lambda: 1 << 27)  # a machine with 128 MiB
    with pytest.raises(ValueError, match=r"fit into memory, got 'x'.*0.25 GiB.*numpy.save"):
        load_source(path, array="x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_data_sets_by_name_are_known_by_their_headers(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part in ("train", "t10k"):
        for content, shape in (("images-idx3", (200_000, 28, 28)), ("labels-idx1", (60_000,))):
            data = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
            with gzip.open(folder / f"{part}-{content}-ubyte.gz", "wb", compresslevel=1) as file:
                file.write(data)
                for _ in range(200 if len(shape) == 3 else 1):
                    file.write(bytes(784_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"must be uint8 \(60000, 28, 28\), got uint8 \(200000"):
        load_source("mnist", data_dir=tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    npz(folder / "binarized_mnist.npz", train=(header(1 << 20, 98, dtype="|u1"), 98 << 20))
    with pytest.raises(ValueError, match=r"array train, must be uint8 \(50000, 98\), got uint8"):
        load_source("binarized-mnist", data_dir=folder)
