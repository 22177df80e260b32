"""Sources: the data sets known by name are what they should be, and the door checks what enters."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from hvax.data.check import check_examples, holds_bits
from hvax.data.source import SOURCES, load_source

BESIDE_THE_REPOSITORY = Path(__file__).parents[3] / "shared" / "data"
MNIST_FILES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}


def write_blank_mnist(folder: Path, **other_shapes: tuple[int, ...]) -> None:
    """The four files, all zeros and so almost free: sparse on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in MNIST_FILES.items():
        shape = other_shapes.get(name.replace("-", "_"), shape)
        sizes = np.array(shape, dtype=">u4").tobytes()
        path = folder / name
        path.write_bytes(bytes([0, 0, 8, len(shape)]) + sizes)
        os.truncate(path, path.stat().st_size + int(np.prod(shape)))


@pytest.fixture
def shared_data() -> Path:
    path = Path(os.environ.get("HVAX_DATA", BESIDE_THE_REPOSITORY))
    if not path.is_dir():
        pytest.skip(f"needs MNIST in {path}; set HVAX_DATA to the folder that has it")
    return path


def test_digits_are_in_the_package():
    digits = load_source("digits")
    assert digits.x.shape == (1797, 8, 8) and digits.x.dtype == np.uint8
    assert digits.x.max() == digits.scale == 16.0
    assert digits.x[0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert digits.x.sum(dtype=int) == 561_718
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert not digits.fixed
    np.testing.assert_array_equal(digits.pool, np.arange(1797))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("inside", [True, False], ids=["own folder", "data folder"])
def test_mnist_layouts(tmp_path, name, inside):
    write_blank_mnist(tmp_path / name if inside else tmp_path)
    source = load_source(name, data_dir=tmp_path)
    assert source.x.shape == (70_000, 28, 28) and source.x.dtype == np.uint8
    assert source.labels.shape == (70_000,)
    assert (source.name, source.scale, source.num_validation) == (name, 255.0, 10_000)
    assert list(source.fixed) == ["test"]
    np.testing.assert_array_equal(source.fixed["test"], np.arange(60_000, 70_000))
    np.testing.assert_array_equal(source.pool, np.arange(60_000))


def test_mnist_of_another_size_is_not_mnist(tmp_path):
    write_blank_mnist(tmp_path, train_labels_idx1_ubyte=(59_999,))
    with pytest.raises(
        ValueError, match=r"train-labels.* must be uint8 \(60000,\), got uint8 \(59999,\)\. Fetch"
    ):
        load_source("mnist", data_dir=tmp_path)


def test_missing_files_are_named_with_their_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="--data-dir") as caught:
        load_source("mnist", data_dir=tmp_path)
    for name in MNIST_FILES:
        assert str(caught.value).count(name) == 2
    caught.match(f"{tmp_path / 'mnist'} lacks train-images.*; {tmp_path} lacks train-images")

    write_blank_mnist(tmp_path / "fashion-mnist")
    (tmp_path / "fashion-mnist" / "t10k-labels-idx1-ubyte").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="fashion-mnist lacks t10k-labels-idx1-ubyte;"):
        load_source("fashion-mnist", data_dir=tmp_path)

    with pytest.raises(FileNotFoundError, match=r"binarized_mnist lacks binarized_mnist\.npz"):
        load_source("binarized-mnist", data_dir=tmp_path)


def test_binarized_mnist_unpacks(tmp_path):
    parts = {"train": (50_000, 98), "valid": (10_000, 98), "test": (10_000, 98)}
    arrays = {part: np.full(shape, i, np.uint8) for i, (part, shape) in enumerate(parts.items())}
    arrays["train"][0, 0] = 0b1010_0000
    np.savez_compressed(tmp_path / "binarized_mnist.npz", **arrays)
    source = load_source("binarized-mnist", data_dir=tmp_path)
    assert source.x.shape == (70_000, 28, 28) and source.x.dtype == np.uint8
    assert source.x[0, 0, :4].tolist() == [1, 0, 1, 0]
    assert (source.labels, source.scale) == (None, 1.0)
    assert source.pool.size == 0
    ones = {part: source.x[indices[1]].sum() for part, indices in source.fixed.items()}
    assert ones == {"train": 0, "validation": 98, "test": 98}

    np.savez_compressed(tmp_path / "binarized_mnist.npz", **{**arrays, "valid": np.zeros((5, 784))})
    with pytest.raises(ValueError, match=r"array valid, must be uint8 \(10000, 98\), got float64"):
        load_source("binarized-mnist", data_dir=tmp_path)


def test_shared_mnist(shared_data):
    source = load_source("mnist", data_dir=shared_data)
    assert source.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert source.labels[60_000:60_010].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert source.x.max() == 255
    assert source.x.mean() / source.scale == pytest.approx(0.131, abs=0.001)  # as published


def test_shared_binarized_mnist(shared_data):
    source = load_source("binarized-mnist", data_dir=shared_data)
    assert source.x.shape == (70_000, 28, 28)
    assert np.unique(source.x).tolist() == [0, 1]
    assert source.x.mean() == pytest.approx(0.131, abs=0.002)  # the mean intensity of MNIST
    assert not source.x[:, 0, 0].any()  # corners are blank: bits in another order would show here


@pytest.mark.parametrize(
    ("dtype", "scale"), [("uint8", 255.0), ("int64", 1.0), ("float32", 1.0), ("bool", 1.0)]
)
def test_a_file_by_its_path(tmp_path, dtype, scale):
    x = np.arange(6).reshape(3, 2).astype(dtype)
    np.savez(tmp_path / "mine.npz", x=x, y=np.arange(3))
    path = tmp_path / "mine.npz"
    source = load_source(path, array="x", labels="y")
    assert (source.name, source.scale) == (str(path), scale)
    np.testing.assert_array_equal(source.x, x)
    np.testing.assert_array_equal(source.labels, [0, 1, 2])
    assert source.pool.tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "bool"])
def test_bits_are_no_gray_levels(tmp_path, monkeypatch, dtype):
    """Of any type, in one piece or several; one 2 in the last piece, and they are gray."""
    monkeypatch.setattr("hvax.data.check._CHUNK", 8)
    bits = np.eye(5, dtype=dtype)
    assert holds_bits(bits)
    np.save(tmp_path / "bits.npy", bits)
    assert load_source(tmp_path / "bits.npy").scale == 1.0
    if dtype == "bool":
        return
    bits[4, 4] = 2
    assert not holds_bits(bits)
    np.save(tmp_path / "gray.npy", bits)
    assert load_source(tmp_path / "gray.npy").scale == (255.0 if dtype == "uint8" else 1.0)


def test_a_file_is_checked_where_it_enters(tmp_path):
    np.save(tmp_path / "mine.npy", np.array([[1.0], [np.inf]]))
    with pytest.raises(ValueError, match=r"mine\.npy must be finite, got inf at index \(1, 0\)"):
        load_source(tmp_path / "mine.npy")


def test_nan_in_a_file_is_a_missing_value(tmp_path):
    np.save(tmp_path / "mine.npy", np.array([[1.0], [np.nan]]))
    assert load_source(tmp_path / "mine.npy").holes
    with pytest.raises(ValueError, match=r"rows can only be dropped of a \.csv file.*keep"):
        load_source(tmp_path / "mine.npy", missing="drop")


@pytest.mark.parametrize("name", ["mnits", "data/unheard-of"])
def test_unknown_names_list_the_known(name):
    with pytest.raises(ValueError, match=", ".join(SOURCES) + rf".*\.npz.* got '{name}'"):
        load_source(name)


def test_paths_that_are_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        load_source(tmp_path / "nowhere.csv")
    with pytest.raises(IsADirectoryError, match="got a directory"):
        load_source(tmp_path)


def test_known_sources_take_no_choice():
    with pytest.raises(
        ValueError, match=r"must be None with the source 'digits', got None, 'y' and None\. Leave"
    ):
        load_source("digits", labels="y")


# check_examples


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), (2, 3, 4, 1)])
def test_examples_pass(dtype, shape):
    check_examples(np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("x", "match"),
    [
        ([[1.0]], r"must be a NumPy array of examples, got list\. Convert"),
        (np.array([None]), "got object with None at index"),
        (np.array([1j]), r"got complex128\. Give both parts"),
        (np.array(["a"]), "got <U1 with 'a' at index"),
        (np.array([b"a"]), r"got \|S1 with .*a.* at index"),
        (np.array([(1, 2.0)], dtype="i4,f8"), r"got records of f0.*\. Convert"),
        (np.array(["2020-01-01"], dtype="M8[D]"), r"got datetime64.*\. Give seconds"),
    ],
)
def test_wrong_types_are_refused(x, match):
    with pytest.raises(TypeError, match=f"my_x .*{match}"):
        check_examples(x, "my_x")


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (3, 2, 0)])
def test_empty_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"my_x must be \(n, ...\).* got shape .*\. Give"):
        check_examples(np.zeros(shape), "my_x")


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
@pytest.mark.parametrize("rows_at_once", [1, 3, 1000])
def test_the_first_value_that_is_not_finite_is_located(monkeypatch, bad, rows_at_once):
    x = np.zeros((10, 2, 3), dtype=np.float32)
    x[7, 1, 2] = x[7, 0, 2] = x[9, 0, 0] = bad
    monkeypatch.setattr("hvax.data.check._CHUNK", rows_at_once * x[0].nbytes)
    with pytest.raises(
        ValueError, match=rf"my_x must be finite, got {bad} at index \(7, 0, 2\)\. "
    ):
        check_examples(x, "my_x")


def test_a_map_larger_than_the_pieces_streams(tmp_path):
    """A sparse map of 256 MB is checked in the memory of a piece of it, which is 16 MB."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype="f4", shape=(2**16, 1024))
    tracemalloc.start()
    try:
        check_examples(x)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
