"""IDX files: what is written is read, and whatever else the bytes say is refused by name."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hvax.data.idx import read_idx

CODES = {
    "uint8": 0x08,
    "int8": 0x09,
    "int16": 0x0B,
    "int32": 0x0C,
    "float32": 0x0D,
    "float64": 0x0E,
}

arrays = st.sampled_from(sorted(CODES)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=4))
)


def idx_header(code: int, *shape: int) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def idx_bytes(x: np.ndarray) -> bytes:
    return idx_header(CODES[x.dtype.name], *x.shape) + x.astype(x.dtype.newbyteorder(">")).tobytes()


VALID = idx_bytes(np.arange(12, dtype=np.int16).reshape(3, 4))


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """One file, rewritten by every example: its name says nothing about gzip."""
    return tmp_path_factory.mktemp("idx") / "images-idx"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@given(x=arrays)
@settings(max_examples=50, deadline=None)
def test_round_trip(path, pack, x):
    path.write_bytes(pack(idx_bytes(x)))
    read = read_idx(path)
    assert read.dtype == x.dtype and read.dtype.isnative
    assert read.flags.writeable
    np.testing.assert_array_equal(read, x)


def test_gzip_of_several_members_is_one_stream(path):
    path.write_bytes(gzip.compress(VALID[:9]) + gzip.compress(VALID[9:]))
    np.testing.assert_array_equal(read_idx(path), np.arange(12).reshape(3, 4))


REFUSED = {
    "empty": (b"", "an IDX file", "no bytes"),
    "short magic": (b"\0\0\x08", "an IDX file", "00 00 08"),
    "other format": (b"\x89PNG1234", "an IDX file", "89 50 4e 47"),
    "unknown type": (b"\0\0\x0a\x01", "an IDX file", "00 00 0a 01"),
    "no dimension": (b"\0\0\x08\x00", "1 to 32 dimensions", "0"),
    "255 dimensions": (b"\0\0\x08\xff" + bytes(2000), "1 to 32 dimensions", "255"),
    "short header": (VALID[:9], "a header of 12 bytes", "9"),
    "empty dimension": (idx_header(0x08, 0, 5), "at least 1", r"\(0, 5\)"),
    "truncated": (VALID[:-1], "24 bytes of data", "at most 23"),
    "trailing": (VALID + b"\0", "24 bytes of data", "more bytes"),
    "gzip of truncated": (gzip.compress(VALID[:-1]), "24 bytes of data", "23"),
    "gzip of trailing": (gzip.compress(VALID + b"\0"), "24 bytes of data", "more bytes"),
    "truncated gzip": (gzip.compress(VALID)[:-1], "complete gzip file", "not decompress"),
    "gzip header alone": (gzip.compress(VALID)[:15], "complete gzip file", "15 bytes"),
    "trailing gzip": (gzip.compress(VALID) + b"junk", "complete gzip file", "not decompress"),
    "wrong checksum": (gzip.compress(VALID)[:-8] + bytes(8), "complete gzip file", "CRC"),
}


@pytest.mark.parametrize(("content", "expected", "got"), REFUSED.values(), ids=REFUSED)
def test_refusals_say_what_was_expected_what_came_and_what_to_do(path, content, expected, got):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"images-idx must .*{expected}.* got .*{got}.*\. \w+"):
        read_idx(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", [(2**32 - 1,), (60_000, 28, 28), (2**32 - 1,) * 8])
def test_a_header_that_claims_too_much_allocates_nothing(path, pack, shape):
    path.write_bytes(pack(idx_header(0x0E, *shape) + b"little"))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"must hold the .* bytes of data"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_behind_a_small_header_is_not_inflated(path):
    path.write_bytes(gzip.compress(idx_header(0x08, 4) + bytes(2**25)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more bytes"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        read_idx(tmp_path)


@given(data=st.data(), pack=st.sampled_from([bytes, lambda b: gzip.compress(b, mtime=0)]))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(path, data, pack):
    content = bytearray(pack(VALID))
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, len(content)))
    content[start:stop] = data.draw(st.binary(max_size=12))
    path.write_bytes(data.draw(st.sampled_from([content, pack(bytes(content))])))
    try:
        read = read_idx(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert read.dtype.name in CODES
