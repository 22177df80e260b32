"""What a page says of a model, in words."""

import numpy as np
import pytest

import hvax
from hvax.report.model_view import flow_view, kind_of, likelihood_words, transitions
from models_for_tests import linear_gaussian

FLOWS = {
    "a flow of no steps": hvax.HamiltonianFlow(0),
    "1 leapfrog step": hvax.HamiltonianFlow(1, 0.1),
    "3 tempered leapfrog steps": hvax.HamiltonianFlow(
        3, 0.1, hvax.hamiltonian.QuadraticTempering(0.3)
    ),
    "3 transitions of 2 leapfrog steps": hvax.HamiltonianFlow(3, 0.1, leapfrog_steps=2),
    "2 transitions": hvax.HamiltonianFlow(2, 0.1, eta=0.5),
    "4 annealed transitions": hvax.HamiltonianFlow.uha(4),
    "4 annealed transitions by position Verlet": hvax.HamiltonianFlow.dais(4),
}


@pytest.mark.parametrize("words", FLOWS)
def test_flows_in_words(words):
    assert transitions(FLOWS[words]) == words
    assert kind_of(hvax.HVAE(linear_gaussian(), FLOWS[words])) == f"Hamiltonian VAE, {words}"


def test_a_view_of_a_flow():
    flow = hvax.HamiltonianFlow(2, np.array([0.1, 0.2]), eta=hvax.Learned(0.5), bridge=[0.4, 1.0])
    view = flow_view(hvax.HVAE(linear_gaussian(), flow))
    assert view.words == (
        "2 annealed transitions on −log p(x | z) − log p(z), by way of densities between it and "
        "the encoder’s. A transition keeps 0.500 of the momentum (η, learned)."
    )
    np.testing.assert_allclose(view.step_sizes, [0.1, 0.2])
    np.testing.assert_allclose(view.bridge, [0.4, 1.0])
    assert view.beta is None and not view.step_sizes_learned and not view.bridge_learned
    assert likelihood_words(linear_gaussian()) == "Gaussian likelihood"
