"""How well each feature does, and which are shown; which data are series."""

import numpy as np
import pytest

from hvax.report.features import agreement, by_rank, gaps
from hvax.report.figures.reconstructed_features import reconstructed_features
from hvax.report.figures.sampled_features import sampled_features
from hvax.report.series import as_series, laid_out

RNG = np.random.default_rng(0)
CURVES = np.sin(np.linspace(0, 9, 100) + RNG.uniform(0, 6, size=(30, 1)))


def test_agreement_of_features():
    x = RNG.normal(size=(50, 4))
    mean = np.stack([2 * x[:, 0] + 1, -x[:, 1], np.zeros(50), np.full(50, np.nan)], axis=1)
    found = agreement(x, mean, {})
    np.testing.assert_allclose(found[:2], [1, -1], rtol=1e-12)
    assert np.isnan(found[2:]).all()
    huge = agreement(x * 1e200, x * 1e250, {})
    np.testing.assert_allclose(huge, 1, rtol=1e-9)


def test_agreement_of_classes():
    """Kappa: 0 where one class is always given, 1 where all are right, and by hand between."""
    there = np.array([0.0, 0, 0, 1, 1, 2, np.nan])
    always, right = np.zeros(7), np.nan_to_num(there)
    half = np.array([0.0, 0, 1, 1, 0, 2, 1])  # 4 of 6 right; chance (3 * 3 + 2 * 2 + 1) / 36
    x, mean = np.stack([there] * 3, axis=1), np.stack([always, right, half], axis=1)
    names = dict.fromkeys(range(3), ("a", "b", "c"))
    expected = [0, 1, (4 / 6 - 14 / 36) / (1 - 14 / 36)]
    np.testing.assert_allclose(agreement(x, mean, names), expected, atol=1e-12)
    drawn = np.stack([right, right, np.full(7, 2.0)], axis=1)
    found = gaps(x, drawn, names)  # of 3/6, 2/6, 1/6: seven are 4/7, 2/7, 1/7; or 0, 0, 1
    np.testing.assert_allclose(found, [1 / 14, 1 / 14, 5 / 6], atol=1e-12)


def test_gaps_of_samples():
    """Samples moved by two standard deviations, twice as wide, and equal."""
    x = RNG.normal(size=(4000, 3))
    samples = np.stack([x[:, 0] + 2, 2 * x[:, 1], x[:, 2]], axis=1)
    found = gaps(x, samples, {})
    assert found[0] == pytest.approx(2, rel=0.05)
    assert found[1] == pytest.approx(0.75, rel=0.2)  # mean |quantile| between 2 and 98%
    assert found[2] == 0
    assert np.isnan(gaps(np.ones((5, 1)), samples[:, :1], {})).all()


def test_features_by_rank():
    score = np.array([0.1, np.nan, 0.9, 0.5, 0.7])
    every = by_rank(score, 5, largest_first=True)
    assert every.features.tolist() == [0, 1, 2, 3, 4]
    best = by_rank(score, 3, largest_first=True)
    assert best.features.tolist() == [2, 3, 0] and best.score.tolist() == [0.9, 0.5, 0.1]
    assert by_rank(score, 2, largest_first=False).features.tolist() == [0, 2]
    assert len(by_rank(np.full(9, np.nan), 4, largest_first=True).features) == 4


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((100, 2), (100, 2)), ((2, 100), (100, 2)), ((100, 8), (100, 8)), ((28, 28), None),
     ((5, 3), None), ((3, 8, 8), None)],
)  # fmt: skip
def test_series_of_channels(shape, expected):
    x = RNG.normal(size=(3, *shape))
    found = as_series(x)
    assert (None if found is None else found.shape[1:]) == expected
    if found is not None:
        np.testing.assert_array_equal(laid_out(x, found), found)


def test_series_of_one_channel():
    assert as_series(CURVES).shape == (30, 100, 1)
    noisy = CURVES + 0.3 * RNG.normal(size=CURVES.shape)
    assert as_series(noisy) is not None
    assert as_series(1e200 * CURVES, [f"t_{i}" for i in range(100)]) is not None
    names = [f"gene {chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(100)]
    assert as_series(CURVES, names) is None, "columns with names of their own"
    assert as_series(CURVES[:, :15]) is None, "too short"
    assert as_series(RNG.normal(size=(30, 100))) is None, "columns in no order"
    units = RNG.normal(size=(30, 40)) * 10.0 ** RNG.integers(-5, 5, 40)
    assert as_series(units) is None, "columns of many units"
    assert as_series(np.zeros((30, 40))) is None


def test_classes_are_named_and_counted():
    """7 classes and a number; the least common classes are counted together, as others."""
    there = np.repeat(np.arange(7.0), [9, 8, 7, 6, 5, 4, 1])
    back = np.where(there == 1, 0.0, there)  # class b is taken for a, all others come back
    x = np.stack([there, RNG.normal(size=40), np.where(there < 3, np.nan, 1.0)], axis=1)
    mean = np.stack([back, x[:, 1], np.full(40, 0.8)], axis=1)
    classes, names = {0: tuple("abcdefg"), 2: ("no", "yes")}, ["kind", "mass", "answer"]
    shown = by_rank(agreement(x, mean, classes), 12, largest_first=True)
    picture = reconstructed_features(x, mean, shown, names, classes)
    assert "kind 80% right" in picture.alt and "answer 100% right" in picture.alt
    kind, _, answer = picture.figure.axes
    assert [label.get_text() for label in kind.get_yticklabels()] == list("abcdef")
    bars = [bar.get_width() for bar in kind.containers[1]]
    assert bars == [1, 0, 1, 1, 1, 1]
    assert [label.get_text() for label in answer.get_yticklabels()] == ["yes"]

    drawn = np.stack([there[::-1], x[:, 1], np.zeros(40)], axis=1)
    picture = sampled_features(x, drawn, shown, names, classes)
    kind, _, answer = picture.figure.axes
    assert [label.get_text() for label in kind.get_yticklabels()] == [*"abcdef", "1 other"]
    assert kind.containers[0][0].get_width() == 9 / 40
    data, samples = ([bar.get_width() for bar in bars] for bars in answer.containers)
    assert data == [1, 0] and samples == [0, 1]
