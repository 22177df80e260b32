"""What features are called, and labels as colors."""

import numpy as np
import pytest

from hvax.report.figures.label_colors import coloring, legend
from hvax.report.figures.style import KINDS, SHADES, new_figure, styled
from hvax.report.names import check_names, feature_name, lines, numbered, short


def test_names_of_features():
    assert feature_name(1, (2,), ["mean radius", "area [mm²]"]) == "area [mm²]"
    assert feature_name(0, (2,), None) == "feature 0"
    assert feature_name(7, (2, 5), None) == "feature [1, 2]"
    assert short("x" * 30) == "x" * 23 + "…"
    assert short("_hidden") == " _hidden" and short("") == "(empty)"


@pytest.mark.parametrize(
    "name", ["short", "fractal dimension error", "onewordthatislongerthanapanelis", "a " * 40]
)
def test_names_fit_above_a_panel(name):
    written = lines(name).split("\n")
    assert len(written) <= 2 and all(0 < len(line) <= 17 for line in written)
    assert written[0][:5] == name[:5]


def test_names_must_fit_the_data():
    check_names(None, (3,))
    check_names(["a", "b", "c"], (3,))
    check_names(["a", "b"], (100, 2))
    check_names(["a", "b"], (2, 100))
    with pytest.raises(ValueError, match=r"`feature_names` must be one per feature, 3 .* got 2"):
        check_names(["a", "b"], (3,))


def test_names_that_only_count():
    assert numbered(None) and numbered([f"t{i}" for i in range(20)])
    assert not numbered(["age", "height"])


def test_each_class_has_its_color():
    labels = np.array(["b", "a", "b", "c"])
    found = coloring(labels, 4)
    assert [kind.name for kind in found.kinds] == ["a", "b", "c"]
    assert len({kind.color for kind in found.kinds}) == len({k.marker for k in found.kinds}) == 3
    assert found.kinds[1].chosen.tolist() == [True, False, True, False]
    assert found.shading is None and found.words == ", colored by label"


def test_the_rare_classes_share_one():
    """Of 14, the nine most frequent have a color, and the last is of the five others."""
    labels = np.repeat([f"kind {i:02}" for i in range(14)], np.arange(14, 0, -1))
    found = coloring(labels, len(labels))
    assert len(found.kinds) == len(KINDS)
    assert [kind.name for kind in found.kinds[:9]] == [f"kind {i:02}" for i in range(9)]
    assert found.kinds[-1].name == "5 others" and found.kinds[-1].chosen.sum() == 15
    assert sum(kind.chosen.sum() for kind in found.kinds) == len(labels)


def test_numbers_are_shaded():
    values = np.append(np.arange(100.0), 1e6)
    found = coloring(values, 101)
    assert [kind.color for kind in found.kinds] == list(SHADES)
    assert sum(kind.chosen.sum() for kind in found.kinds) == 101
    assert found.kinds[0].chosen[0] and found.kinds[-1].chosen[-1]
    highest = [values[kind.chosen].max() for kind in found.kinds]
    assert np.all(np.diff(highest) > 0), "from low to high"
    assert found.shading is not None and len(found.shading.edges) == len(SHADES) + 1


def test_labels_that_name_each_point_are_not_colored():
    found = coloring(np.array([f"patient {i}" for i in range(90)]), 90)
    assert len(found.kinds) == 1 and "90 different labels are too many" in found.words


@pytest.mark.parametrize("length", [1, 8, 24])
def test_a_legend_stays_in_the_frame(length):
    names = [f"{i:x}" * length for i in range(10)]
    kinds = coloring(np.array(names), 10).kinds
    with styled():
        figure, axes = new_figure(4.8, 4.5)
        for kind in kinds:
            axes.plot([0], [0], kind.marker, label=kind.name)
        figure.set_figheight(4.5 + legend(figure, kinds, 4.8))
        figure.draw_without_rendering()
    (box,) = figure.legends
    inside = box.get_window_extent().transformed(figure.transFigure.inverted())
    assert inside.x0 >= 0 and inside.x1 <= 1 and inside.y0 >= 0
    assert inside.y1 <= axes.get_position().y0, "below the data"
