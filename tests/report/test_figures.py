"""Figures as SVG in two themes, and the small arithmetic of pictures."""

import re

import numpy as np
import pytest

from hvax.report.figures.axes import apart, dots
from hvax.report.figures.bound_by_step import bound_by_step
from hvax.report.figures.bounds import bounds as bounds_figure
from hvax.report.figures.bridge import bridge
from hvax.report.figures.energy_errors import energy_errors
from hvax.report.figures.learning_curves import Run, curve, learning_curves
from hvax.report.figures.schedule import schedule
from hvax.report.figures.step_sizes import step_sizes
from hvax.report.figures.style import BLUE, INK, PAPER, THEMES, new_figure, styled
from hvax.report.figures.svg import svg
from hvax.report.numbers import known, number


def drawn():
    with styled():
        figure, axes = new_figure(2.0, 1.0)
        axes.plot([0, 1.23456789], [0, 1], color=BLUE)
        axes.text(0.5, 0.123456, "0.123456 $x_1$ <&>", color=INK)
        axes.text(0.5, 0.5, "#000005 1.23456", color=PAPER)
    return figure


def test_both_themes():
    written = svg(drawn())
    assert set(written) == {"light", "dark"}
    for theme, content in written.items():
        text = content.decode()
        inside = "".join(re.findall("<[^>]*>", text))
        for name in (BLUE, INK, PAPER):
            assert name not in inside
            assert THEMES[theme][name] in inside
        assert "0.123456 $x_1$ &lt;&amp;&gt;" in text, "text is kept, coordinates are rounded"
        assert "#000005 1.23456" in text
        assert not re.search(r"\d\.\d{3}", inside)
        assert "system-ui" in text and "DejaVu" not in text
        assert not re.search("<metadata|<dc:", text)
    assert written["light"] != written["dark"]


def test_a_figure_is_written_the_same_every_time():
    assert svg(drawn()) == svg(drawn())


def test_style_leaves_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    svg(drawn())
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("count", [1, 300])
def test_dots_are_all_there(count):
    with styled():
        figure, axes = new_figure(2.0, 1.0)
        where = np.random.default_rng(0).uniform(size=(count, 2))
        dots(axes, where, "#123456", size=2.0, alpha=0.5)
        axes.set(xlim=(0, 1), ylim=(0, 1))
    text = svg(figure)["light"].decode()
    (path,) = re.findall(r'<path d="([^"]*)"[^>]*#123456', text)
    assert path.count("M") == path.count("L") == count
    assert "stroke-linecap: round" in text


@pytest.mark.parametrize(
    "values", [[1.0], [1.0, 1.0], [3.0, 1.0, 2.0], [0.0, 0.05, 0.1, 5.0], [2.0, 2.0, 2.0, 2.0]]
)
def test_labels_stand_apart(values):
    placed = np.array(apart(values, 0.5))
    assert np.all(np.diff(np.sort(placed)) >= 0.5 - 1e-6)
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(placed[order]) > 0), "in their order"
    if 5.0 in values:
        assert 5.0 in placed, "what stands alone stays"


def test_numbers_as_they_are_read():
    assert number(-1234.567) == "−1,234.57"
    assert number(0.5, 1, sign=True) == "+0.5"
    assert number(0.0) == "0.00" and number(0.004, 3) == "0.004"
    assert number(-2.449e8) == "−2.45 × 10⁸" and number(3e-9, sign=True) == "+3.00 × 10⁻⁹"
    assert (number(np.nan), number(np.inf), number(-np.inf)) == ("not known", "∞", "−∞")


def test_null_is_what_was_not_finite():
    read = known({"nll": None, "bounds": {"1": None, "10": -2.0}, "beta": None, "step_size": None})
    assert np.isnan(read["nll"]) and np.isnan(read["bounds"]["1"])
    assert read["bounds"]["10"] == -2.0
    assert read["beta"] is None and read["step_size"] is None


def history(*validation):
    return [{"epoch": i + 1, "elbo": v, "validation_elbo": v} for i, v in enumerate(validation)]


def test_curves_leave_out_what_is_not_finite():
    found = curve(history(-10.0, None, float("-inf"), -4.0), "validation_elbo")
    np.testing.assert_array_equal(found.epoch, [1, 3, 4])
    np.testing.assert_array_equal(found.elbo, [-10.0, np.nan, -4.0])
    assert curve(history(None, float("nan")), "elbo") is None
    assert curve([], "elbo") is None


def test_the_early_epochs_are_off_the_axis():
    """A run that starts at -1e6 must not press the rest into a line."""
    run = Run("VAE", BLUE, history(-1e6, *np.linspace(-200, -100, 40)), {"nll": 99.0})
    picture = learning_curves([run])
    low, high = picture.figure.axes[0].get_ylim()
    assert -260 < low < -180 and -99 < high < -80
    assert "best −100.00 at epoch 41 of 41" in picture.alt


def test_a_late_collapse_of_the_axis():
    """The first third at -1e9, a fall to it at the end, and a test NLL of 1e9: the axis is that of
    the epochs between."""
    elbo = [*np.full(30, -1e9), *np.linspace(-120, -100, 60), -1e9]
    run = Run("VAE", BLUE, history(*elbo), {"nll": 1e9})
    axes = learning_curves([run]).figure.axes[0]
    low, high = axes.get_ylim()
    assert -140 < low < -119 and -100 < high < -95
    (label,) = axes.texts
    assert label.get_text() == "−NLL VAE ↓" and low <= label.xy[1] <= high


def test_a_ruined_run_does_not_hide_the_other():
    sound = Run("DAIS", BLUE, history(*np.linspace(-200, -100, 40)), {"nll": 99.0})
    ruined = Run("VAE", BLUE, history(*np.linspace(-2e7, -1e7, 40)), {"nll": 1e7})
    low, high = learning_curves([sound, ruined]).figure.axes[0].get_ylim()
    assert -300 < low < -180 and -99 < high < -80


def test_a_bound_of_few_samples_may_be_off_the_axis():
    bounds = {"1": -1e9, "10": -120.0, "100": -101.0, "500": -100.0}
    run = Run("VAE", BLUE, [], {"nll": 100.0, "bounds": bounds})
    low, _ = bounds_figure([run]).figure.axes[0].get_ylim()
    assert -130 < low < -120
    usual = Run("VAE", BLUE, [], {"nll": 100.0, "bounds": {**bounds, "1": -140.0}})
    assert bounds_figure([usual]).figure.axes[0].get_ylim()[0] < -140


def test_one_epoch_and_none():
    one = Run("VAE", BLUE, history(-5.0), {"nll": float("nan"), "bounds": {1: -5.0}})
    svg(learning_curves([one]).figure)
    assert bounds_figure([one]) is None
    none = Run("VAE", BLUE, [], {"nll": 3.0, "bounds": {}})
    assert learning_curves([none]) is None


def test_a_diverged_trajectory_is_counted():
    errors = np.array([[0.1, 0.2], [np.inf, 0.0], [-0.1, np.nan]])
    picture = energy_errors(errors, midway=False)
    assert "1 trajectories" in picture.caption and "2 that are not finite" in picture.caption
    assert energy_errors(np.full((3, 2), np.nan), midway=True) is None
    weights = np.zeros((4, 2, 3))
    weights[0, 0, 1] = -np.inf
    weights[:, :, 2] += np.arange(4.0)[:, None]
    picture = bound_by_step(weights)
    assert "3 test points" in picture.caption and "1 points with non-finite" in picture.caption
    assert "+2.000 ± 0.577" in picture.caption  # of 1, 2, 3


def test_steps_count_from_zero():
    """Three steps, of which the last moves along five dimensions: 0, 1, 2 and 0 to 4."""

    def places(picture):
        axes = picture.figure.axes[0]
        return axes.get_xlim()

    assert places(energy_errors(np.ones((4, 3)), midway=False)) == (-0.6, 2.6)
    assert places(bridge(np.array([0.2, 0.5, 0.9]), learned=True)) == (-0.6, 2.6)
    assert places(step_sizes(np.full(5, 0.1), learned=True)) == (-0.6, 4.6)
    assert places(schedule(np.array([0.5, 0.7, 1.0]), learned=True)) == (-0.3, 2.3)


def test_energy_errors_of_many_sizes_are_drawn_by_powers_of_ten():
    errors = np.concatenate([np.full((90, 2), 0.01), np.full((10, 2), 900.0)])
    picture = energy_errors(errors, midway=False)
    assert picture.figure.axes[0].get_yscale() == "symlog"
    svg(picture.figure)
    even = energy_errors(np.linspace(-1, 1, 100)[:, None], midway=False)
    assert even.figure.axes[0].get_yscale() == "linear"
