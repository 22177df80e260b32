"""Users' files: .npy, .npz and .csv are read as they are, or refused with a line that helps."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvax.data.arrays import read_array

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


@pytest.fixture
def write(tmp_path):
    def to_file(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def refuses(match: str):
    """A `ValueError` that names the file, and says what was expected, what came and what to do."""
    whole = r"(?=.*user\.np[yz].*must .*got .*\. \w+)"
    return pytest.raises(ValueError, match=rf"(?s){whole}.*{match}")


# .npy


@pytest.mark.parametrize("x", [X, np.asfortranarray(X), X.astype("uint8"), X > 3])
def test_npy_is_memory_mapped(write, x):
    read, labels, *_ = read_array(write("user.npy", npy(x)))
    assert labels is None
    assert isinstance(read, np.memmap) and not read.flags.writeable
    assert read.dtype == x.dtype
    np.testing.assert_array_equal(read, x)


def test_npy_of_foreign_byte_order_comes_native(write):
    read, *_ = read_array(str(write("user.NPY", npy(X.astype(">f4")))))
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, X)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (npy(X)[:-1], "a complete .npy array of numbers, got 175 bytes"),
        (npy(X)[:20], "a complete .npy array of numbers, got 20 bytes"),
        (b"", "a complete .npy array of numbers, got 0 bytes"),
        (b"1,2,3\n", "a complete .npy array of numbers, got 6 bytes"),
        (npz(x=X), "a complete .npy array"),
        (npy(X) + npy(X), "one array of 176 bytes, got a file of 352"),
    ],
)
def test_npy_refusals(write, content, match):
    with refuses(match):
        read_array(write("user.npy", content))


class Bomb:
    """Whoever unpickles this makes a directory."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("name", ["user.npy", "user.npz"])
@pytest.mark.parametrize("bare", [False, True], ids=["object array", "bare pickle"])
def test_pickles_are_refused_unopened(write, tmp_path, name, bare):
    bomb = np.array([Bomb(tmp_path / "exploded")], dtype=object)
    stored = npy(bomb) if name == "user.npy" else npz(x=bomb)
    path = write(name, pickle.dumps(bomb) if bare else stored)
    with refuses("a complete .npy array of numbers|a .npz archive|a complete .npz archive"):
        read_array(path)
    assert not (tmp_path / "exploded").exists()

    loaded = np.load(path, allow_pickle=True)  # the bomb is live: this is what was not done
    if not isinstance(loaded, np.ndarray):
        with loaded:
            loaded["x"]
    assert (tmp_path / "exploded").exists()


# .npz


def test_npz_with_one_array_needs_no_name(write):
    read, labels, *_ = read_array(write("user.npz", npz(x=X)))
    assert labels is None
    np.testing.assert_array_equal(read, X)


@pytest.mark.parametrize("y", [np.array([2, 0, 1]), np.array(["a", "b", "c"])])
def test_npz_with_labels(write, y):
    path = write("user.npz", npz(x=X, y=y, other=X))
    read, labels, *_ = read_array(path, array="x", labels="y")
    np.testing.assert_array_equal(read, X)
    np.testing.assert_array_equal(labels, y)
    two = write("user.npz", npz(x=X, y=y))  # beside the labels only one array is left
    np.testing.assert_array_equal(read_array(two, labels="y")[0], X)


@pytest.mark.parametrize(
    ("choice", "match"),
    [
        ({}, r"`array` must name one of its arrays \(x, y, z, f\), got None"),
        ({"array": "w"}, r"`array` must name one of its arrays \(x, y, z, f\), got 'w'"),
        ({"array": "x", "labels": "w"}, r"`labels` must name one of its arrays .*, got 'w'"),
        (
            {"array": "x", "labels": "z"},
            r"one for each of the examples 'x' \(3, 4\), got .* \(2,\)",
        ),
        ({"array": "x", "labels": "f"}, "integers or strings, .* got float64"),
    ],
)
def test_npz_choices(write, choice, match):
    arrays = {"x": X, "y": np.arange(3), "z": np.arange(2), "f": np.ones(3)}
    with refuses(match):
        read_array(write("user.npz", npz(**arrays)), **choice)


def test_npz_refusals(write):
    with refuses("a complete .npz archive"):
        read_array(write("user.npz", npz(x=X)[:-30]))
    with refuses("a .npz archive, got a file that begins 93 4e 55 4d"):
        read_array(write("user.npz", npy(X)))
    with refuses("a .npz archive, got a file that begins with nothing"):
        read_array(write("user.npz", b""))
    with refuses("it has none"):
        read_array(write("user.npz", npz()))
    stray = io.BytesIO()
    with zipfile.ZipFile(stray, "w") as archive:
        archive.writestr("notes.txt", "no array")
    with refuses("a complete .npz archive"):
        read_array(write("user.npz", stray.getvalue()))


# .csv


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "a,b\n1,2\n3,4\n",
        "\ufeffa,b\r\n1,2\r\n\r\n3,4",
        '"1"," 2"\n3,4\n\n',
    ],
)
def test_csv_with_and_without_header(write, text):
    x, labels, *_ = read_array(write("user.csv", text))
    assert labels is None and x.dtype == np.int64
    np.testing.assert_array_equal(x, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a,y,b\n1,7,2\n3,8,4\n", "y"),
        ("a,y,b\n1,7,2\n3,8,4\n", "1"),
        ("0,y,1\n1,7,2\n3,8,4\n", "y"),
        ("1,7,2\n3,8,4\n", "1"),
        ("1,7,2\n3,8,4\n", "-2"),
    ],
)
def test_csv_labels_by_name_or_index(write, text, labels):
    x, y, *_ = read_array(write("user.csv", text), labels=labels)
    np.testing.assert_array_equal(x, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(y, [7, 8])
    assert y.dtype == np.int64


def test_csv_labels_that_are_words(write):
    x, y, *_ = read_array(write("user.csv", "0.5,cat\n1,dog\n"), labels="-1")
    assert x.dtype == np.float64 and y.dtype.kind == "U"
    assert x.tolist() == [[0.5], [1.0]] and y.tolist() == ["cat", "dog"]


def test_csv_numbers_too_large_for_int64_stay_floats(write):
    x, *_ = read_array(write("user.csv", f"{2**70}\n1\n"))
    assert x.dtype == np.float64 and x[0, 0] == 2.0**70


@pytest.mark.parametrize(
    ("text", "labels", "match"),
    [
        ("", None, "user.csv must hold a table of numbers, got an empty file"),
        ("\n\n", None, "user.csv must hold a table of numbers, got an empty file"),
        ("a,b\n", None, "at least one example .* got 0 lines with 0 columns"),
        ("y\n1\n", "y", "at least one example .* got 0 lines with 0 columns"),
        ("a,b\n1,2\n3\n", None, "user.csv, line 3, must have 2 cells, .* got 1"),
        ("1,2\n\n3,4,5\n", None, "user.csv, line 3, must have 2 cells, .* got 3"),
        ("1,2\n3,x\n", None, r"line 2, column 1 \(1\), must be a finite number, got 'x'"),
        ("1,2\n3,1_0\n", None, r"line 2, column 1 \(1\), must be a finite number, got '1_0'"),
        ("1,2.o\n3,4\n", None, "line 1, must .* header, .* got '2.o' among numbers in column 1"),
        ("a,7,x\n1,8,2\n!,9,4\n", "1", r"line 3, column 0 \(a\), must be a finite number"),
        ("a,y\n1,2\n3, \n", "y", "line 3, column 1, must hold a label, got an empty cell"),
        ("a,b\n1,2\n", "c", "one column of the header, got 'c' and the header a, b"),
        ("a,a\n1,2\n", "a", "one column of the header, got 'a'"),
        (
            "1," * 500 + "1\n",
            "a",
            r"one column of the header, got 'a' and the header .{60,80} \.\.\.\. Pass",
        ),
        ("1,2\n", "2", "a column's index below 2, got 2"),
        ('1,2\n3,"4\n', None, "comma-separated text in UTF-8, got something else after line"),
        (b"1,2\n3,\xff\n", None, "comma-separated text in UTF-8, got something else after line"),
    ],
)
def test_csv_refusals_give_line_and_column(write, text, labels, match):
    with pytest.raises(ValueError, match=r"user\.csv.*must .* got .*\. \w+") as caught:
        read_array(write("user.csv", text), labels=labels)
    caught.match(match)


# Which file


def test_paths_that_cannot_be_read(write, tmp_path):
    for suffix in ("npy", "npz", "csv", "txt"):
        with pytest.raises(FileNotFoundError, match=f"nowhere.{suffix}"):
            read_array(tmp_path / f"nowhere.{suffix}")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(
        IsADirectoryError, match=r"folder\.npy must be a file .*\.npy, \.npz, \.csv"
    ):
        read_array(tmp_path / "folder.npy")
    with pytest.raises(ValueError, match=r"ends in \.npy, \.npz, \.csv, got '\.parquet'\. Convert"):
        read_array(write("user.parquet", b"PAR1"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_forbidden_file(write):
    path = write("user.npy", npy(X))
    path.chmod(0)
    with pytest.raises(PermissionError, match=r"user\.npy"):
        read_array(path)


def test_choices_that_a_format_does_not_offer(write):
    with refuses("`labels` must be None with a .npy file, .* got 'y'"):
        read_array(write("user.npy", npy(X)), labels="y")
    with refuses("`array` must be None unless the file is .npz, got 'x'"):
        read_array(write("user.npy", npy(X)), array="x")
    with pytest.raises(ValueError, match=r"`array` must be None unless the file is \.npz"):
        read_array(write("user.csv", "1,2\n"), array="x")


# Any bytes at all


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


CONTENTS = {".npy": npy(X), ".npz": npz(x=X), ".csv": b"a,y,b\n1,cat,2.5\n3,dog,4\n"}


@pytest.mark.parametrize("suffix", CONTENTS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(fuzzed, suffix, data):
    content = bytearray(CONTENTS[suffix])
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, len(content)))
    content[start:stop] = data.draw(st.binary(max_size=12))
    path = fuzzed / f"user{suffix}"
    path.write_bytes(content)
    try:
        x, labels, *_ = read_array(path, labels="1" if suffix == ".csv" else None)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert x.dtype.isnative
        assert labels is None or labels.shape == (len(x),)


rows = st.lists(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
    min_size=1,
    max_size=5,
)


@given(rows=rows)
@settings(max_examples=100, deadline=None)
def test_csv_round_trip(fuzzed, rows):
    path = fuzzed / "numbers.csv"
    path.write_text("\n".join(",".join(map(repr, row)) for row in rows))
    x, *_ = read_array(path, header="no")  # 0.0, 1.0, 2.0 looks like one
    np.testing.assert_array_equal(x, np.array(rows))


def test_tiny_numbers_are_no_axis(tmp_path):
    """Seen to fail: their steps were taken for even, as they were all near 0."""
    path = tmp_path / "tiny.csv"
    path.write_text("-4.3e-220,0.0,1.3e-240\n0.0,0.0,0.0\n")
    assert len(read_array(path).x) == 2
