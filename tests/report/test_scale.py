"""Scales of axes, and ticks that a reader can tell apart."""

import numpy as np
import pytest

from hvax.report.figures.scale import Scale, limits, scale_for, set_ticks
from hvax.report.figures.style import new_figure, styled

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=500)
DATA = {
    "normal": (NORMAL, "linear"),
    "large": (1e9 * NORMAL, "linear"),
    "tiny": (1e-9 * NORMAL, "linear"),
    "far from zero": (1e9 + NORMAL, "linear"),
    "log-normal": (np.exp(3 * NORMAL), "log"),
    "heavy tails": (RNG.standard_cauchy(500), "asinh"),
    "mostly zero": (np.where(NORMAL > 0, np.exp(3 * NORMAL), 0), "asinh"),
    "small counts": (RNG.poisson(4.0, 500), "linear"),
    "long counts": (RNG.poisson(RNG.gamma(0.2, 300, 500)), "asinh"),
    "constant": (np.full(500, 3.5), "linear"),
    "zeros": (np.zeros(500), "linear"),
    "bits": ((NORMAL > 0).astype(float), "linear"),
}


@pytest.mark.parametrize("name", DATA)
def test_the_scale_suits_the_data(name):
    x, kind = DATA[name]
    scale = scale_for(x)
    assert scale.kind == kind
    places = scale(x)
    assert np.all(np.isfinite(places))
    assert np.all(np.diff(places[np.argsort(x, kind="stable")]) >= 0), "monotone"


@pytest.mark.parametrize("name", DATA)
def test_ticks_are_few_inside_and_different(name):
    x, _ = DATA[name]
    scale = scale_for(x)
    low, high = limits(scale(x), scale(x))
    assert low < scale(x).min() and high > scale(x).max()
    ticks = scale.ticks(low, high)
    assert 1 <= len(ticks.places) == len(ticks.labels) <= 8
    assert all(low <= place <= high for place in ticks.places)
    assert len(set(ticks.labels)) == len(ticks.labels)
    assert all(len(label) <= 6 for label in ticks.labels), ticks.labels


def test_units_and_offsets_are_said():
    assert Scale().ticks(-2e9, 2e9).unit == "in 10⁹"
    assert "−1" in Scale().ticks(-2e9, 2e9).labels
    assert Scale().ticks(0.0, 3e-9).unit == "in 10⁻⁹"
    assert Scale().ticks(0.0, 50.0).unit == ""
    offset = Scale().ticks(1e9 - 2.2, 1e9 + 2.2)
    assert offset.unit == "less 999999998" and offset.labels[0] == "0"
    assert Scale("log").ticks(-3.5, 4.5).labels[:2] == ["10⁻³", "0.1"]
    assert Scale("asinh").ticks(-8.0, 8.0).labels.count("0") == 1


def test_whole_numbers_have_whole_ticks():
    for high in (1.2, 3.4, 7.8, 40.0):
        for label in scale_for(np.arange(4)).ticks(-0.5, high).labels:
            assert float(label.replace("−", "-")).is_integer()


def test_a_model_below_zero_has_no_log_axis():
    x = np.exp(3 * NORMAL)
    assert scale_for(x, x).kind == "log"
    scale = scale_for(x, NORMAL)
    assert scale.kind == "asinh" and np.all(np.isfinite(scale(NORMAL)))


def test_limits_leave_out_what_lies_far_away():
    data = np.array([0.0, 10.0])
    low, high = limits(data, np.array([-1e30, -3.0, 12.0, 1e30, np.nan]))
    assert -5 < low < -3 and 12 < high < 14
    low, high = limits(np.zeros(3), np.full(3, 0.2))
    assert low < 0 and 0.2 < high < 2


def test_labels_that_would_touch_are_left_out():
    with styled():
        figure, axes = new_figure(1.0, 1.0)
    axes.set_xlim(0.0, 0.02)
    ticks = Scale().ticks(0.0, 0.02)
    set_ticks(axes.xaxis, ticks, characters=100)
    assert [label.get_text() for label in axes.get_xticklabels()] == ticks.labels
    set_ticks(axes.xaxis, ticks, characters=17)
    written = [label.get_text() for label in axes.get_xticklabels()]
    assert written[::2] == ticks.labels[::2] and set(written[1::2]) == {""}
    assert figure.axes == [axes]
