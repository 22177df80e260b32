"""Data as users have them: masked arrays, data frames, sparse matrices, lists, data sets of pairs.

The libraries of data frames are no dependency of the tests: what needs them is skipped where they
are not installed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from numpy.lib.recfunctions import structured_to_unstructured

import hvax
from hvax.checks import real_array, vector
from hvax.data.examples import Examples, as_examples
from hvax.data.source import Source

X = np.arange(12.0).reshape(4, 3)
MASKED = np.ma.masked_equal(np.where(X == 7, -9999, X), -9999)


def vae():
    networks = hvax.mlp((3,), 2, hidden=(4,), likelihood=hvax.FixedGaussian(1.0),
                        key=jax.random.key(0))  # fmt: skip
    return hvax.VAE(*networks)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: hvax.fit(vae(), (X, x), epochs=1, progress=False),
        lambda x: hvax.fit(vae(), Examples(x), epochs=1, progress=False),
        lambda x: hvax.decode(vae(), x[:, :2], progress=False),
        lambda x: hvax.loss(vae(), x, key=jax.random.key(0)),
        lambda x: Source("mine", x, None, 1.0),
        lambda x: real_array(x, "x"),
        lambda x: vector(x[2], "x"),
    ],
)
def test_a_mask_is_not_lost(call):
    """Where missing values cannot be taken; what stood below the mask was trained on."""
    masked = MASKED.copy()
    masked.mask[2, 0] = True
    with pytest.raises(ValueError, match=r"missing values|a masked one with 2 hidden values"):
        call(masked)


@pytest.mark.parametrize("as_given", [lambda x: x, list], ids=["array", "list of rows"])
def test_masked_values_are_missing(as_given):
    x = as_examples(as_given(MASKED))
    assert x.holes
    np.testing.assert_array_equal(x[:], np.where(X == 7, np.nan, X))
    np.testing.assert_array_equal(x.seen(slice(None)), np.where(X == 7, 0, X))
    np.testing.assert_array_equal(x.observed().rows(slice(None)), X != 7)
    whole = as_examples(np.ma.masked_equal(np.arange(6).reshape(2, 3), 4))
    np.testing.assert_array_equal(whole[:], [[0, 1, 2], [3, np.nan, 5]])


def test_a_masked_array_without_a_mask_is_an_array():
    np.testing.assert_array_equal(as_examples(np.ma.masked_array(X))[:], X)


def test_object_arrays_of_numbers_are_numbers():
    whole = as_examples(np.array([[1.0], [2]], dtype=object))
    assert whole.stored.dtype == np.float64 and whole.stored.tolist() == [[1.0], [2.0]]
    for hole in (None, np.nan):
        found = as_examples(np.array([[1.0], [hole]], dtype=object))
        assert found.holes and found.observed()[:].tolist() == [[True], [False]]


def test_object_arrays_name_what_is_no_number():
    with pytest.raises(TypeError, match=r"object with 'a' at index \(1, 0\)\. Leave out or repl"):
        as_examples(np.array([[1.0], ["a"]], dtype=object))
    with pytest.raises(TypeError, match=r"object with None at index \(0, 0\)"):
        as_examples(np.array([[None]]))
    with pytest.raises(TypeError, match=r"<U5 with 'north' at index \(0,\)"):
        as_examples(np.array(["north", "1"]))


def test_other_kinds_of_arrays_are_told_what_to_do():
    with pytest.raises(TypeError, match=r"complex128\. Give both parts"):
        as_examples(X + 1j)
    times = np.array([["2026-01-01", "2026-01-02"]], dtype="datetime64[s]")
    with pytest.raises(TypeError, match=r"datetime64\[s\]\. Give seconds since a start"):
        as_examples(times)
    assert as_examples((times - times.min()) / np.timedelta64(1, "s"))[:].max() == 86400
    records = np.zeros(3, dtype=[("a", float), ("b", int)])
    with pytest.raises(TypeError, match=r"records of a, b\. Convert them with numpy"):
        as_examples(records)
    assert as_examples(structured_to_unstructured(records)).x_shape == (2,)


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.coo_matrix])
def test_sparse_matrices_are_told_how_to_convert(kind):
    sparse = kind(X)
    with pytest.raises(TypeError, match=r"got a sparse \w+\. Convert it with .toarray\(\)"):
        as_examples(sparse)
    assert as_examples(sparse.toarray()).x_shape == (3,)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            [[1.0, 2.0], [3.0]],
            ValueError,
            r"one shape, got \(2,\) at index 0 and \(1,\) at index 1",
        ),
        ([X, X[:2]], ValueError, r"got \(4, 3\) at index 0 and \(2, 3\) at index 1\. Pad or cut"),
        ([(X, 3), (X, 5)], TypeError, r"a list of pairs\. Give.*numpy.stack\(\[x for x, _ in"),
        ({"x": X, "y": X}, TypeError, r"got a dict of 'x', 'y'\. Give the array"),
        (iter(X), TypeError, r"can be read only once\. Collect it with numpy.stack\(list"),
        ((row for row in X), TypeError, "can be read only once"),
        (zip(X, X, strict=True), TypeError, "can be read only once"),
        ([[[1.0, 2.0], [3.0]], [[4.0]]], (TypeError, ValueError), "data must"),
    ],
)
def test_what_is_no_array_is_refused_in_words(data, error, message):
    with pytest.raises(error, match=message):
        as_examples(data)


class Pairs:
    """A data set of (x, y) as torchvision has them."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        if i >= 4:
            raise IndexError
        return X, i


def test_a_data_set_of_pairs_is_told_apart():
    with pytest.raises(TypeError, match=r"a Pairs of pairs\. Give the examples alone"):
        as_examples(Pairs())
    assert as_examples(np.stack([x for x, _ in Pairs()])).x_shape == (4, 3)


def test_arrays_of_jax_and_lists_are_data():
    assert as_examples(jnp.asarray(X)).x_shape == (3,)
    assert as_examples([list(row) for row in X]).x_shape == (3,)
    assert as_examples([jnp.asarray(row) for row in X]).x_shape == (3,)


def test_labels_as_data_are_told_apart():
    """(x, y) means (x_in, target): what is scored is the second."""
    with pytest.raises(ValueError, match="looks like labels"):
        hvax.fit(vae(), (X, np.arange(4)), epochs=1, progress=False)
    with pytest.raises(ValueError, match="looks like labels"):
        hvax.evaluate(vae(), (X, np.arange(4)), key=jax.random.key(0), progress=False)


def test_a_row_is_counted_from_the_first():
    """The checks see 4,096 rows at a time."""
    x = np.zeros((5000, 2), np.float32)
    x[4500, 1] = -1
    with pytest.raises(ValueError, match=r"\(404, 1\).*counts from example 4096 of data"):
        hvax.fit(hvax.VAE(*hvax.mlp((2,), 2, key=jax.random.key(0))), x, progress=False)


def frames():
    """A data frame of each library: whole numbers and floats."""
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"n": [1, 2, 3], "mass": [0.5, 1.5, 2.5]})


def test_a_pandas_frame_is_data_and_has_names():
    examples = as_examples(frames())
    assert examples.names == ("n", "mass")
    np.testing.assert_array_equal(examples[:], [[1, 0.5], [2, 1.5], [3, 2.5]])


@pytest.mark.parametrize("dtype", ["Int64", "Float32", "boolean", "int64[pyarrow]"])
def test_nullable_columns_may_have_holes(dtype):
    pandas = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame = frames()
    frame["k"] = pandas.array([1, 0, 1], dtype=dtype)
    np.testing.assert_array_equal(as_examples(frame)[:][:, 2], [1, 0, 1])
    frame.loc[1, "k"] = pandas.NA
    holed = as_examples(frame)
    np.testing.assert_array_equal(holed[:][:, 2], [1, np.nan, 1])
    assert holed.holes and not as_examples(frame.dropna()).holes


def test_the_column_that_is_no_number_is_named():
    pandas = pytest.importorskip("pandas")
    frame = frames().assign(site=["a", "b", "c"])
    with pytest.raises(TypeError, match="column 'site' of data must hold numbers"):
        as_examples(frame)
    with pytest.raises(TypeError, match="column 'kind' of data must hold numbers"):
        as_examples(frames().assign(kind=pandas.Categorical(["a", "b", "a"])))
    with pytest.raises(TypeError, match="column 't' of data must hold numbers, got datetime64"):
        as_examples(frames().assign(t=pandas.to_datetime(["2026-01-01"] * 3)))
    with pytest.raises(ValueError, match="column 'mass' of data must be finite, got inf in row 2"):
        as_examples(frames().assign(mass=[1.0, 2.0, np.inf]))
    assert as_examples(frames().assign(mass=[1.0, np.nan, 2.0])).holes
    objects = as_examples(frames().assign(o=pandas.Series([1, 2.5, None], dtype=object)))
    np.testing.assert_array_equal(objects[:][:, -1], [1, 2.5, np.nan])


def test_a_column_that_float32_does_not_resolve_is_named():
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(0).normal(size=(40, 2)) * [300, 1] + [1.7e9, 0]
    frame = pandas.DataFrame(x, columns=["time", "size"])
    with jax.enable_x64(False):
        networks = hvax.mlp(
            (2,), 1, hidden=(4,), likelihood=hvax.LearnedGaussian(), key=jax.random.key(0)
        )
        with pytest.warns(hvax.exceptions.UnresolvedFeature, match="'time' in data"):
            hvax.encode(hvax.VAE(*networks), frame, progress=False)


def test_frames_of_polars_and_pyarrow():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"n": [1, 2, 3], "mass": [0.5, 1.5, 2.5]})
    assert as_examples(frame).names == ("n", "mass")
    holed = as_examples(frame.with_columns(polars.Series("n", [1, None, 3])))
    np.testing.assert_array_equal(holed[:][:, 0], [1, np.nan, 3])
    with pytest.raises(TypeError, match="column 's' of data must hold numbers"):
        as_examples(frame.with_columns(polars.Series("s", ["a", "b", "c"])))
    with pytest.raises(TypeError, match=r"LazyFrame\. Read it with .collect\(\)"):
        as_examples(frame.lazy())
    pyarrow = pytest.importorskip("pyarrow")
    assert as_examples(pyarrow.table({"n": [1, 2], "m": [0.5, 1.5]})).names == ("n", "m")
    assert as_examples(pyarrow.table({"n": [1, None], "m": [0.5, 1.5]})).holes
