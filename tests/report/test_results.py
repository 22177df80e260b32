"""The first table: references, advice and numbers of every size."""

import math

import pytest

from hvax.report.headline import headline
from hvax.report.numbers import known
from hvax.report.results import against, results, warnings
from hvax.report.scores import Score
from reports_for_tests import NUMBERS, channels_first, counts

FLOW = {"beta": [1.0, 1.0], "step_size": 0.1, "latent_size": 2}


def score(name="DAIS", **more):
    return Score(name, "model", known({**NUMBERS, "latent_size": 2, **more}))


def words(table):
    cells = [cell for row in table.rows for cell in (row.name, *row.cells)]
    return " ".join(word for cell in cells for word in (cell.value, cell.remark))


def said(sentence):
    return "".join(span.words for span in sentence)


def test_references_are_lines_of_the_table():
    shown = words(headline([score(nll=9.0)], None, {"independent features": 12.5, "gaussian": 8.0}))
    assert "Independent features" in shown and "12.50" in shown
    assert "the model is 3.50 better" in shown and "the model is 1.00 worse" in shown
    lost = words(headline([score(nll=None)], None, {"independent features": 12.5}))
    assert "the model’s is not finite" in lost


def test_models_below_a_reference_are_told():
    scores = [score("DAIS", nll=9.0), score("VAE", nll=11.0)]
    assert against(scores, {"independent features": 12.0}) == []
    (one,) = against(scores, {"independent features": 10.0})
    assert said(one).startswith("VAE has a higher NLL than the reference “independent features”")
    (both,) = against(scores, {"independent features": 8.0})
    assert said(both).startswith("DAIS and VAE have a higher NLL")
    (lost,) = against([score("VAE", nll=None)], {"independent features": 8.0})
    assert said(lost).startswith("VAE has")


@pytest.mark.parametrize(
    ("more", "advice"),
    [
        ({}, "Evaluate with more samples"),
        ({"samples_needed": 2300}, "About 2,300 samples would suffice."),
        ({"samples_needed": None}, "annealed importance sampling will (hvax evaluate --ais)"),
    ],
)
def test_the_advice_is_that_of_the_evaluation(more, advice):
    (warning,) = warnings([score(**more)])
    assert warning[0].strong and "is not to be trusted" in warning[0].words
    assert advice in said(warning)


def test_points_without_the_flow_are_counted():
    (warning,) = warnings([score(trusted=True, plain_points=3, num_points=57)])
    assert said(warning) == (
        "At 3 of 57 points the DAIS’s flow fails: they are scored by the encoder’s draws without "
        "it, which is a lower bound too."
    )


def test_a_flow_of_no_steps_moves_nothing():
    shown = words(headline([score(beta=[1.0], step_size=0.1)], None, {}))
    assert "Flow moves z by" not in shown
    assert "Flow moves z by" in words(headline([score(**FLOW)], None, {}))


def test_gray_levels_are_told():
    """Where the evaluation found them, and nowhere else."""
    shown = results(channels_first()).warnings
    assert any("cross-entropies" in said(warning) for warning in shown)
    assert not any("cross-entropies" in said(warning) for warning in results(counts()).warnings)


def test_numbers_of_every_size():
    shown = words(headline([score(elbo=-2.449e8, elbo_se=1e6, nll=3e-9)], None, {}))
    assert "−2.45 × 10⁸" in shown and "3.00 × 10⁻⁹" in shown
    assert not math.isnan(score().evaluation["nll"])
