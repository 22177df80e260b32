"""A flow's name means the same flow with the same defaults wherever it is said."""

import inspect
import re
from pathlib import Path
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from experiments import flows

import hvax
from hvax.commands.build import build_flow
from hvax.config import FlowOptions, Train
from hvax.hamiltonian.momentum import AbstractMomentum, GaussianMomentum
from hvax.hamiltonian.presets import MAX_FORCE, PRESETS
from models_for_tests import in_bits

ROOT = Path(__file__).parents[2]
PROGRAM = [name for name in PRESETS if name != "reference"]


def by_program(options, latent_size=20):
    config = tyro.cli(Train, args=["digits", *options.split()], config=(tyro.conf.OmitArgPrefixes,))
    return build_flow(config.flow, latent_size=latent_size)


def assert_same(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    assert in_bits(one) == in_bits(two)


def by_experiment(name, num_steps):
    return flows.settings()[f"{name} {num_steps}"].flow()


@pytest.mark.parametrize("num_steps", [1, 4, 16])
@pytest.mark.parametrize("name", PROGRAM)
def test_method_program_and_experiment_agree(name, num_steps):
    by_method = getattr(hvax.HamiltonianFlow, name)(num_steps)
    assert_same(by_method, by_program(f"--flow {name} --num-steps {num_steps}"))
    if f"{name} {num_steps}" in flows.settings():
        assert_same(by_method, by_experiment(name, num_steps))
    assert_same(by_method, hvax.HamiltonianFlow.preset(name, num_steps))


@pytest.mark.parametrize("name", PROGRAM)
def test_number_of_transitions_by_default(name):
    assert_same(getattr(hvax.HamiltonianFlow, name)(), by_program(f"--flow {name}"))


def test_flow_without_steps():
    for name in PROGRAM:
        assert_same(
            hvax.HamiltonianFlow.preset(name, 0), by_program(f"--flow {name} --num-steps 0")
        )


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--eta 0.5", {"eta": hvax.Learned(0.5)}),
        ("--no-learn-eta", {"eta": 0.9}),
        ("--eta 1", {"eta": 1.0}),
        ("--bridge even", {"bridge": np.arange(1, 5) / 5}),
        ("--bridge none", {"bridge": None}),
        ("--units latent", {"units": "latent"}),
        ("--leapfrog-steps 3", {"leapfrog_steps": 3}),
        ("--step-size 0.2 --no-learn-step-size", {"step_size": 0.2}),
        (
            "--schedule quadratic",
            {"tempering": hvax.hamiltonian.QuadraticTempering(hvax.Learned(0.8))},
        ),
        ("--gradient finite --remat", {"gradient": "finite", "remat": True}),
    ],
)
def test_program_options_are_arguments(words, options):
    assert_same(hvax.HamiltonianFlow.dais(4, **options), by_program(f"--flow dais {words}"))


def test_longer_trajectories_of_hvae_begin_with_shorter_steps():
    for words, options in [("", {}), ("--leapfrog-steps 3", {"leapfrog_steps": 3})]:
        flow = hvax.HamiltonianFlow.hvae(8, **options)
        assert_same(flow, by_program(f"--flow hvae --num-steps 8 {words}"))
        np.testing.assert_allclose(flow.step_sizes, 1.6 / (8 * flow.leapfrog_steps), rtol=1e-6)


def test_the_program_and_the_class_have_every_name():
    assert list(get_args(get_type_hints(FlowOptions)["flow"])) == PROGRAM
    for name, preset in PRESETS.items():
        method = getattr(hvax.HamiltonianFlow, name)
        assert inspect.signature(method).parameters["num_steps"].default == preset.num_steps
    with pytest.raises(ValueError, match=r"flow must be one of hvae, uha, .*, got 'nuts'"):
        hvax.HamiltonianFlow.preset("nuts", 4)


def test_docs_have_every_name_and_its_defaults():
    """The first table of docs/flows.md."""
    text = (ROOT / "docs" / "flows.md").read_text()
    rows = re.findall(
        r"^\| `HamiltonianFlow\.(\w+)\(K\)` \| `--flow (\w+)` \| (.*) \|$", text, re.M
    )
    assert [row[0] for row in rows] == [row[1] for row in rows] == PROGRAM
    for name, _, cells in rows:
        preset = PRESETS[name]
        bridge, kept, tempering, step, _ = cells.split(" | ")
        assert bridge.startswith("none" if preset.bridge == "none" else "learned")
        assert kept == {0: "none", 1: "all"}.get(preset.eta, f"learned, from {preset.eta}")
        tempered = f"from β₀ to 1, β₀ learned from {preset.beta0}"
        assert tempering == ("none" if preset.schedule == "none" else tempered)
        turn = f"min({preset.step_size}, {preset.turn} / total leapfrog steps)"
        assert step == (f"{preset.step_size}" if preset.turn is None else turn)
    assert f"one learned step size, at most {PRESETS['dais'].max_step}, in" in text
    assert f"the gradient at {MAX_FORCE:g}" in text


def test_force_is_limited_where_units_are_the_posteriors():
    assert hvax.HamiltonianFlow.hvae(2).max_force == MAX_FORCE
    assert hvax.HamiltonianFlow.uha(2, units="latent").max_force is None
    assert hvax.HamiltonianFlow.uha(2, units="latent", max_force=5.0).max_force == 5.0
    assert hvax.HamiltonianFlow.reference(2, units="posterior").max_force == MAX_FORCE


def test_the_references_defaults():
    flow = hvax.HamiltonianFlow.reference()
    assert_same(flow, hvax.HamiltonianFlow(3, 0.05, hvax.hamiltonian.QuadraticTempering(0.3)))


class Still(AbstractMomentum):
    """A momentum of a user's own: that of rho_0, kept."""

    refreshes: bool = False

    def start(self, gamma, beta):
        return gamma / jnp.sqrt(beta), -0.5 * (gamma @ gamma)

    def log_density(self, rho, beta):
        return -(0.5 * beta * (rho @ rho))

    def refresh(self, rho, xi, **place):
        raise AssertionError("not refreshed")


def test_a_momentum_in_place_of_eta():
    given = hvax.HamiltonianFlow.uha(2, momentum=GaussianMomentum(hvax.Learned(0.9)))
    assert_same(given, hvax.HamiltonianFlow.uha(2))
    own, kept = hvax.HamiltonianFlow(2, momentum=Still()), hvax.HamiltonianFlow(2)
    assert own.eta is None and kept.momentum == GaussianMomentum(1.0)
    ends = [flow(lambda z: 0.5 * z @ z, jnp.ones(3), key=jax.random.key(0)) for flow in (own, kept)]
    assert in_bits(ends[0]) == in_bits(ends[1])
    with pytest.raises(ValueError, match="eta must be None if momentum is given"):
        hvax.HamiltonianFlow(2, eta=0.5, momentum=Still())
