"""Whether a table's first line names its columns, and what stands between its cells."""

import numpy as np
import pytest

from hvax.data.source import load_source

DRAW = np.random.default_rng(0)


def write(folder, first, x, mark=",", form="%.4f"):
    path = folder / "x.csv"
    text = "\n".join(mark.join(form % v for v in row) for row in x)
    path.write_text(f"{mark.join(first)}\n{text}\n")
    return path


def first_is_header(path, **options):
    source = load_source(path, **options)
    return len(source.x) == len(path.read_text().splitlines()) - 1, source


@pytest.mark.parametrize(
    "first",
    [
        ["900", "902", "904", "906"],  # wavelengths
        ["2500", "2000", "1500", "1000"],
        ["0.1", "0.2", "0.3", "0.4"],
        ["0", "1", "2", "3", "4"],  # pandas
        ["0", "1", "2"],
        ["0", "1"],
        ["0"],
        ["2001", "2002", "2003"],
        [str(v) for v in (351.2, 352.9, 355.1, 358.0, 362.4, 365.0, 370.1, 376.3)],  # uneven
        ["", "0", "1", "2", "3"],  # of pandas, with its index
        ["id", "900", "902", "904"],
        ["900", "902", "904", "class"],
    ],
)
def test_numbers_that_are_an_axis_name_columns(first, tmp_path):
    """They were an example: NLL 28.4 where 7.5 is right."""
    x = DRAW.normal(size=(30, len(first)))
    if first[0] in ("", "id"):
        x[:, 0] = np.arange(30)
    path = write(tmp_path, first, x)
    is_header, source = first_is_header(path)
    assert is_header and source.header and source.feature_names == tuple(first)
    (note,) = source.notes
    assert "line 1" in note and "names the columns" in note and "--header no" in note
    if first[0] not in ("", "id") and "class" not in first:
        without = load_source(path, header="no")
        assert len(without.x) == 31 and not without.header and without.notes == ()


@pytest.mark.parametrize(
    ("first", "x"),
    [
        ([2, 1, 3], DRAW.poisson(3, (30, 3))),
        ([1, 2, 3], DRAW.integers(0, 6, (30, 3))),  # in order by chance, of the kind of the rest
        ([1.5, 2.5, -1.0, 0.2], DRAW.normal(size=(30, 4))),
        (np.sort(DRAW.normal(size=4)), DRAW.normal(size=(30, 4))),
        (np.sort(DRAW.normal(size=9)), np.sort(DRAW.normal(size=(30, 9)), axis=1)),  # all in order
        (np.arange(5.0), np.arange(5.0) + np.arange(30)[:, None]),  # ramps
        ([0, 1], DRAW.integers(0, 2, (30, 2))),
    ],
)
def test_examples_are_not_taken_for_names(first, x, tmp_path):
    form = "%d" if np.issubdtype(np.asarray(x).dtype, np.integer) else "%.4f"
    path = write(tmp_path, [form % v for v in first], x, form=form)
    is_header, source = first_is_header(path)
    assert not is_header and source.header is False
    assert not any("names the columns" in note for note in source.notes)


def test_the_largest_numbers_are_no_overflow(tmp_path):
    """A warning, and so an error here, where lines were differences of numbers near 1e308."""
    path = write(tmp_path, ["-1e308", "1e308", "-1.5e308"], [[1e308, -1e308, 0.0]], form="%g")
    assert load_source(path).x.shape == (2, 3)


def test_where_it_is_not_clear_a_note_says_what_was_taken(tmp_path):
    path = write(tmp_path, ["1", "2", "3"], DRAW.integers(0, 6, (30, 3)), form="%d")
    (note,) = load_source(path).notes
    assert "1, 2, 3 is an example" in note and "--header yes" in note


def test_an_option_decides(tmp_path):
    path = write(tmp_path, ["5", "7", "1"], DRAW.normal(size=(30, 3)))
    assert load_source(path, header="yes").feature_names == ("5", "7", "1")
    assert load_source(path, header="no").feature_names == ("0", "1", "2")
    with pytest.raises(ValueError, match="`header` must be auto unless"):
        np.save(tmp_path / "x.npy", np.ones((2, 2)))
        load_source(tmp_path / "x.npy", header="yes")
    named = write(tmp_path, ["a", "b"], DRAW.normal(size=(30, 2)))
    with pytest.raises(ValueError, match="must be a finite number, got 'a'"):
        load_source(named, header="no")


def test_a_word_among_numbers_is_asked_about(tmp_path):
    """It may be a typing error, or a header."""
    path = write(tmp_path, ["1.5", "x", "0.3"], DRAW.normal(size=(30, 3)))
    with pytest.raises(ValueError, match=r"got 'x' among numbers.*--header"):
        load_source(path)
    assert load_source(path, header="yes").feature_names == ("1.5", "x", "0.3")


def test_labels_are_found_among_names_of_numbers(tmp_path):
    """By index below the number of columns, else by name."""
    path = write(tmp_path, ["900", "902", "904"], DRAW.normal(size=(30, 3)).round(), form="%d")
    with pytest.raises(ValueError, match="a name of digits is looked for with --header yes"):
        load_source(path, labels="904")
    assert load_source(path, labels="904", header="yes").feature_names == ("900", "902")
    assert load_source(path, labels="2", header="yes").feature_names == ("900", "902")


def test_columns_that_are_looked_for_say_so(tmp_path):
    """One line of examples says little of a header; the names that a run looks for do."""
    path = write(tmp_path, ["350.5", "351.5"], DRAW.normal(size=(1, 2)))
    assert len(load_source(path, columns=["350.5", "351.5"]).x) == 1
    assert len(load_source(path, columns=["0", "1"]).x) == 2


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_quoted_names_may_hold_what_stands_between_cells(mark, tmp_path):
    """A comma in a quoted name was taken for the mark."""
    names = [f'"mass{other} g"' for other in ",;\t"]
    path = write(tmp_path, names, DRAW.normal(size=(30, 3)), mark)
    assert load_source(path).feature_names == tuple(name.strip('"') for name in names)


@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.parametrize("names", [["a", "b"], ["mass, g", "b"]])
def test_decimal_commas_are_read(mark, names, tmp_path):
    x = DRAW.normal(size=(30, 2)).round(3)
    lines = [mark.join(f"{v:.3f}".replace(".", ",") for v in row) for row in x]
    path = tmp_path / "x.csv"
    path.write_text("\n".join([mark.join(names), *lines]) + "\n")
    np.testing.assert_array_equal(load_source(path).x, x)
    path.write_text("\n".join(lines) + "\n")
    np.testing.assert_array_equal(load_source(path).x, x)
    path.write_text("\n".join([*lines, mark.join(["1.5", "2"])]) + "\n")
    with pytest.raises(ValueError, match=r"one decimal mark, got '\S+,\d+' and '1.5'"):
        load_source(path)


def test_commas_between_cells_are_no_decimal_marks(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b,kind\n1,5,u;v\n2,7,u;w\n3,8,x;y\n")
    np.testing.assert_array_equal(load_source(path).x, [[1, 5], [2, 7], [3, 8]])


def test_a_header_of_numpy(tmp_path):
    np.savetxt(tmp_path / "x.csv", DRAW.normal(size=(9, 2)), delimiter=",", header="a,b")
    assert load_source(tmp_path / "x.csv").feature_names == ("a", "b")


def test_other_marks_are_said(tmp_path):
    np.savetxt(tmp_path / "x.csv", DRAW.normal(size=(9, 2)))
    with pytest.raises(ValueError, match="put commas, semicolons or tabs between cells"):
        load_source(tmp_path / "x.csv")
