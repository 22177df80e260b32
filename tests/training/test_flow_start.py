"""A flow that cannot ruin a model: where its steps start, when they shrink, when it is let go."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hvax
from hvax.batch import Batch
from hvax.exceptions import DivergentTrajectories, FlowFailed, SkippedUpdate
from hvax.models.draw_batch import draw_batch
from hvax.models.hvae import HVAE
from hvax.training.flow_start import switched_off, with_smaller_steps, with_stable_steps
from hvax.training.schedule import schedule
from models_for_tests import linear_gaussian

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
VAE = linear_gaussian()
KEY = jax.random.key(0)


def flowing(step_size, num_steps=6, upper=4.0):
    flow = hvax.HamiltonianFlow(
        num_steps, hvax.Learned(step_size, upper=upper), hvax.hamiltonian.NullTempering(1.0)
    )
    return HVAE(VAE, flow)


def step_size(model):
    return float(model.flow.step_sizes)


def errors(model):
    outputs = draw_batch(model, jnp.asarray(X), key=jax.random.key(5))
    return np.asarray(jnp.max(jnp.abs(outputs.trajectory.energy_errors), axis=1))


def test_steps_start_where_trajectories_are_stable():
    """2.0 is beyond the stability of leapfrog for this posterior; half of it, twice, is not."""
    steep = flowing(2.0)
    assert np.quantile(errors(steep), 0.9) > 100
    calm, halvings = with_stable_steps(steep, Batch(jnp.asarray(X)), key=KEY)
    assert 1 <= halvings <= 5 and step_size(calm) == pytest.approx(2.0 / 2**halvings, rel=1e-5)
    assert np.quantile(errors(calm), 0.9) <= 3
    _, again = with_stable_steps(flowing(0.05), Batch(jnp.asarray(X)), key=KEY)
    assert again == 0


def test_fixed_steps_are_the_users():
    fixed = HVAE(VAE, hvax.HamiltonianFlow(6, 2.0, hvax.hamiltonian.NullTempering(1.0)))
    assert with_stable_steps(fixed, Batch(jnp.asarray(X)), key=KEY)[0] is fixed
    assert with_smaller_steps(fixed, 0.5) is fixed


def test_a_factor_of_one_changes_no_bit():
    model = flowing(0.3)
    same = with_smaller_steps(model, jnp.ones(()))
    assert np.asarray(same.flow.step_size.raw) == np.asarray(model.flow.step_size.raw)


def test_steps_never_reach_their_bound():
    model = flowing(0.3)
    for _ in range(60):
        model = with_smaller_steps(model, 0.5)
    assert 4e-4 < step_size(model) < 4.1e-4


def test_without_its_flow_a_model_is_the_plain_vae():
    model = switched_off(flowing(0.3))
    scores = [
        hvax.hamiltonian_elbo(one, jnp.asarray(X), key=jax.random.key(2)) for one in (model, VAE)
    ]
    assert float(scores[0]) == pytest.approx(float(scores[1]), rel=1e-6)


def test_rough_trajectories_shorten_the_steps_alone():
    state = hvax.train_state(flowing(2.0), optax.sgd(1e-3), key=KEY)
    after, _ = hvax.train_step(state, X)
    assert step_size(after.model) == pytest.approx(1.0, rel=1e-4)
    before, moved = (jax.tree.leaves(eqx.filter(s.model.vae, eqx.is_array)) for s in (state, after))
    assert all(np.array_equal(a, b) for a, b in zip(before, moved, strict=True))
    calm = hvax.train_state(flowing(0.3), optax.sgd(1e-3), key=KEY)
    assert not np.array_equal(
        hvax.train_step(calm, X)[0].model.vae.decoder.network.bias, VAE.decoder.network.bias
    )


def test_training_through_an_unstable_flow_still_gains():
    """From a step at which a trajectory's energy error is 1e5 nats. Seen to end at
    -9e13 nats with the shrinking of steps taken out of `update`, the loop and the start."""
    fitted = hvax.fit(flowing(2.0), X, epochs=20, batch_size=20, flow_from_epoch=1, progress=False)
    start = float(hvax.hamiltonian_elbo(VAE, jnp.asarray(X), key=jax.random.key(2)))
    end = float(hvax.hamiltonian_elbo(fitted.model, jnp.asarray(X), key=jax.random.key(2)))
    assert fitted.skipped <= 5 and end > start - 1


class Explodes(eqx.Module):
    """A potential whose force overflows: no step size helps."""

    def __call__(self, vae, x):
        return lambda z: jnp.sum(z**2) * 1e38 * 1e38


def test_a_flow_that_fails_leaves_the_plain_vae(tmp_path):
    """The epochs before it are not lost: they are the model, in memory and on disk."""
    model = HVAE(VAE, flowing(0.3).flow, Explodes())
    options = {"epochs": 6, "batch_size": 20, "progress": False, "max_skipped": 3}
    with pytest.warns((FlowFailed, SkippedUpdate, DivergentTrajectories)) as told:
        fitted = hvax.fit(
            model, X, validation=X[:20], flow_from_epoch=5, run_dir=tmp_path, **options
        )
    assert any(one.category is FlowFailed for one in told)
    assert fitted.ended == "flow failed" and fitted.model.flow.num_steps == 0
    plain = hvax.fit(VAE, X, validation=X[:20], **(options | {"epochs": 4}))
    for ours in (fitted.model.vae, hvax.load(tmp_path / "model", like=fitted.model).vae):
        assert hvax.storage.structure.digest(ours) == hvax.storage.structure.digest(plain.model)
    assert len(fitted.history) == 4


@pytest.mark.parametrize(("stop", "ended"), [(99, "flow of no use"), (5, "callback")])
def test_a_flow_that_does_not_help_is_let_go_at_the_end_alone(stop, ended):
    """Fixed steps that are too long cost 1e3 nats; a run that is to be gone on with keeps them."""
    model = HVAE(VAE, hvax.HamiltonianFlow(4, 1.6, hvax.hamiltonian.NullTempering(1.0)))
    options = {"validation": X[:20], "batch_size": 20, "progress": False, "flow_from_epoch": 5}
    options["callback"] = lambda event: event.epoch == stop
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = hvax.fit(model, X, epochs=6, **options)
    assert fitted.ended == ended
    told = [one.category for one in caught]
    assert (FlowFailed in told) == (ended == "flow of no use")
    assert fitted.model.flow.num_steps == (0 if ended == "flow of no use" else 4)


def test_two_phases_are_a_vae_and_then_its_flow():
    seen = []
    options = {"validation": X[:20], "batch_size": 20, "progress": False}
    fitted = hvax.fit(flowing(0.3), X, epochs=6, flow_from_epoch=4, callback=seen.append, **options)
    assert [event.epoch for event in seen] == [row["epoch"] for row in fitted.history]
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3, 4, 5, 6]
    assert ["divergent" in row for row in fitted.history] == [False] * 3 + [True] * 3
    assert isinstance(fitted.model, HVAE) and fitted.ended == "finished"
    assert fitted.vae_epochs == 3 < fitted.best_epoch
    assert "at most 3 epochs of the plain VAE, then at most 3 with the flow" in fitted.notes


@pytest.mark.parametrize("helps", [False, True])
def test_a_flow_that_no_epoch_improves_is_let_go_or_said_to_be_as_it_was(helps):
    """With a learning rate of 0 no epoch is better than the start. One tiny step gains nothing; ten
    of 0.3 toward the posterior gain a quarter of a nat, untrained."""
    flow = hvax.HamiltonianFlow.dais(10, step_size=0.3) if helps else hvax.HamiltonianFlow(1, 1e-6)
    options = {"validation": X, "batch_size": 20, "progress": False, "flow_from_epoch": 3}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = hvax.fit(HVAE(VAE, flow), X, epochs=4, optimizer=optax.sgd(0.0), **options)
    told = [str(one.message) for one in caught if one.category is FlowFailed]
    assert fitted.best_epoch <= fitted.vae_epochs == 2 and len(fitted.history) == 4
    said = [note for note in fitted.notes if "training did not improve the flow" in note]
    if helps:
        assert told == [] and fitted.ended == "finished" and fitted.model.flow.num_steps == 10
        assert len(said) == 1 and "in 2 epochs: it is kept as it was turned on" in said[0]
    else:
        assert fitted.ended == "flow of no use" and fitted.model.flow.num_steps == 0
        assert len(told) == 1 and "did not improve on the plain VAE in 2 epochs" in told[0]


def test_a_run_of_two_phases_resumes_in_the_same_bits(tmp_path):
    """Stopped in the first phase, and again in the second, by a callback."""
    options = {"validation": X[:20], "batch_size": 20, "progress": False, "epochs": 6}
    options |= {"flow_from_epoch": 4}
    whole = hvax.fit(flowing(0.3), X, **options)
    for last in (2, 5):

        def signaled(event, last=last):
            if event.epoch == last:
                raise KeyError("a crash")

        with pytest.raises(KeyError):
            hvax.fit(flowing(0.3), X, run_dir=tmp_path, resume=True, callback=signaled, **options)
    again = hvax.fit(flowing(0.3), X, run_dir=tmp_path, resume=True, **options)
    assert hvax.storage.structure.digest(again.model) == hvax.storage.structure.digest(whole.model)
    assert [row["elbo"] for row in again.history] == [row["elbo"] for row in whole.history]


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        (16, (320, 8, 500)),
        (120, (480, 12, 100)),
        (1437, (1000, 100, 72)),
        (8000, (250, 100, 13)),
        (50_000, (40, 100, 10)),
        (10_000_000, (5, 500, 10)),
    ],
)
def test_the_schedule_suits_the_number_of_examples(examples, expected):
    assert schedule(examples) == expected


def test_what_is_given_is_kept():
    assert schedule(50, epochs=3, batch_size=7, patience=2) == (3, 7, 2)
    assert schedule(50, patience=0).patience is None
    assert schedule(50, validated=False).patience is None
