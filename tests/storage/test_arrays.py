"""Arrays <-> a file: every dtype bit for bit, and no damage goes unseen."""

import hashlib
import math
import os

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from hvax.data import claims
from hvax.storage import arrays as arrays_module
from hvax.storage.arrays import pack, unpack

NARROW = [
    name
    for name in (
        "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3", "float8_e3m4", "float8_e5m2",
        "float8_e4m3b11fnuz", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
    )
    if hasattr(ml_dtypes, name)
]  # fmt: skip
PLAIN = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float32"]
WIDE = ["int64", "uint64", "float64"]
SHAPES = [(), (0,), (7,), (2, 3), (2, 0, 3), (1, 1, 1)]


def arrays(dtype):
    """One array of each shape, of every pattern of bits."""
    kind = np.dtype(jnp.dtype(dtype))
    draw = np.random.default_rng(0)
    found = {}
    for shape in SHAPES:
        raw = draw.integers(0, 256, (*shape, kind.itemsize)).astype(np.uint8)
        if kind.kind == "b":
            raw %= 2
        found[str(shape)] = raw.view(kind).reshape(shape)
    return found


def written(folder, content):
    packed = pack(content)
    path = folder / "file.safetensors"
    path.write_bytes(packed.content)
    return path, {"sha256": packed.sha256, "narrow": packed.narrow}


def in_bits(found):
    return {name: (a.shape, a.dtype, np.asarray(a).tobytes()) for name, a in found.items()}


@pytest.mark.parametrize("dtype", [*NARROW, *PLAIN])
def test_every_bit_comes_back(dtype, tmp_path):
    """NaNs with their payload too; seen to fail on bfloat16 by way of float32."""
    content = arrays(dtype)
    path, check = written(tmp_path, content)
    back = unpack(path, **check)
    assert in_bits(back) == in_bits(content)
    assert all(isinstance(array, jax.Array) for array in back.values())
    assert list(check["narrow"]) == (list(content) if dtype in NARROW else [])


@pytest.mark.parametrize("dtype", WIDE)
def test_64_bits_come_back_where_they_are_switched_on(dtype, tmp_path):
    content = arrays(dtype)
    path, check = written(tmp_path, content)
    with jax.enable_x64(True):
        assert in_bits(unpack(path, **check)) == in_bits(content)
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r"holds 64-bit arrays .*jax_enable_x64"),
    ):
        unpack(path, **check)


def test_many_kinds_in_one_file(tmp_path):
    content = {dtype: arrays(dtype)["(2, 3)"] for dtype in (*NARROW, *PLAIN)}
    content |= {"no name": np.float32(1.5).reshape(()), "": np.arange(3, dtype=np.int8)}
    path, check = written(tmp_path, content)
    assert in_bits(unpack(path, **check)) == in_bits(content)
    path, check = written(tmp_path, {})
    assert unpack(path, **check) == {}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2", "bool"])
@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[:, ::2],
        lambda a: a[::-1],
        lambda a: np.asfortranarray(a),
        lambda a: np.broadcast_to(a[:1], (4, 6)),
        lambda a: a[2:3, 4:5].reshape(()),
    ],
    ids=["transposed", "every second", "reversed", "Fortran", "broadcast", "0-d"],
)
def test_the_order_in_memory_does_not_matter(dtype, view, tmp_path):
    whole = np.arange(24).reshape(4, 6).astype(jnp.dtype(dtype))
    content = {"a": view(whole)}
    path, check = written(tmp_path, content)
    assert in_bits(unpack(path, **check)) == in_bits(content)
    assert pack({"a": content["a"].copy()}).sha256 == check["sha256"]


def test_arrays_of_jax_may_be_given_as_they_are_on_the_host(tmp_path):
    content = {"a": np.asarray(jnp.asarray([0.1, jnp.nan], jnp.bfloat16))}
    path, check = written(tmp_path, content)
    assert in_bits(unpack(path, **check)) == in_bits(content)


def test_equal_arrays_are_equal_files():
    """Whatever their order; one other bit is another file."""
    one = {"a": np.zeros(2, np.float32), "b": np.ones(3, np.int32)}
    two = dict(reversed(one.items()))
    assert pack(one) == pack(two)
    assert pack(one).sha256 == hashlib.sha256(pack(one).content).hexdigest()
    assert pack(one | {"a": np.asarray([0.0, -0.0], np.float32)}).sha256 != pack(one).sha256


# Damage


CONTENT = {"a": np.arange(5, dtype=np.float32), "b": np.ones(3, jnp.bfloat16)}


def test_every_flipped_bit_is_seen(tmp_path):
    path, check = written(tmp_path, CONTENT)
    whole = path.read_bytes()
    for byte in range(len(whole)):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 4]) + whole[byte + 1 :])
        with pytest.raises(ValueError, match=r"file.safetensors is damaged: "):
            unpack(path, **check)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 20, -1])
def test_a_file_that_was_cut_is_seen(length, tmp_path):
    path, check = written(tmp_path, CONTENT)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"file.safetensors is damaged: "):
        unpack(path, **check)


def test_what_is_longer_is_seen(tmp_path):
    path, check = written(tmp_path, CONTENT)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="is damaged"):
        unpack(path, **check)


def test_a_file_of_another_kind_with_its_checksum_is_told(tmp_path):
    path = tmp_path / "file.safetensors"
    for content in (b"", b"hello, world", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"file.safetensors is damaged: .*"):
            unpack(path, sha256=hashlib.sha256(content).hexdigest(), narrow={})


def test_a_missing_file_is_told(tmp_path):
    _, check = written(tmp_path, CONTENT)
    for path in (tmp_path / "missing", tmp_path):  # a folder is no file
        with pytest.raises(FileNotFoundError, match=rf"the weights file {path} is missing"):
            unpack(path, **check)


def test_others_read_the_file(tmp_path):
    """A safetensors file as every reader knows it."""
    path, _ = written(tmp_path, {"a": CONTENT["a"]})
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)["a"], CONTENT["a"])


@pytest.mark.parametrize("module", [arrays_module, claims])
def test_a_system_that_does_not_tell_its_memory_has_no_limit(module, monkeypatch):
    """Windows has no os.sysconf."""
    assert 2**28 < module._memory() < 2**50
    monkeypatch.delattr(os, "sysconf")
    assert module._memory() == math.inf
