"""Updates that are not finite: left out, told, counted; and many in a row end the run."""

import json
import warnings
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hvax.batch import Batch
from hvax.data.batches import epoch_batches
from hvax.exceptions import DivergentTrajectories, SkippedUpdate
from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.models.draw_batch import draw_batch
from hvax.models.hvae import HVAE
from hvax.objectives import hamiltonian_elbo
from hvax.storage.run_folder import RunFolder
from hvax.storage.structure import load
from hvax.training import feed, loop
from hvax.training.fit import fit
from hvax.training.state import train_state, train_step
from models_for_tests import in_bits, linear_gaussian, moving

X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
MODEL = linear_gaussian()
ADAM, MOMENTUM = optax.adam(0.1), optax.sgd(0.05, momentum=0.9)


def distance(model, batch, *, key, kind=0):
    """The squared distance of the bias from x, with noise; 1: NaN, 2: inf, 3: -inf, 4: finite with
    a gradient of NaN in one number."""
    x = batch.x
    bias = model.decoder.network.bias
    noise = 0.1 * jax.random.uniform(key, x.shape)
    value = jnp.mean((x + noise - bias[None]) ** 2)
    odd = jnp.asarray([0.0, jnp.nan, jnp.inf, -jnp.inf, 0.0], value.dtype)[kind]
    root = jnp.sqrt(jnp.where(kind == 4, 0.0, 1.0) * bias[1] ** 2)  # d sqrt(0) = inf, times 0
    return value + odd + 0.0 * root, {"largest": jnp.max(x)}


def at(steps, kind=1):
    """loss_kwargs that make the loss of these steps, from 0, of a kind."""
    return _at(tuple(steps), kind)


@cache
def _at(steps, kind):
    """One function for the same steps: trainings that are alike share their compiled program."""

    def kwargs(step):
        return {"kind": jnp.where(jnp.isin(step, jnp.asarray(steps)), kind, 0)}

    return kwargs


def train(steps=(), kind=1, folder=None, **options):
    defaults = {
        "epochs": 2,
        "batch_size": 5,
        "optimizer": MOMENTUM,
        "loss_function": distance,
        "loss_kwargs": at(steps, kind),
        "progress": False,
        "resume": folder is not None,
        "run_dir": folder,
    }
    return fit(options.pop("model", MODEL), options.pop("data", X), **(defaults | options))


def given(call):
    """What a call gives, and the messages of its warnings, which are all `SkippedUpdate`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = call()
    assert all(one.category is SkippedUpdate for one in caught), [str(c.message) for c in caught]
    return value, [str(one.message) for one in caught]


def numbers(fitted):
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in fitted.history]
    return in_bits(fitted.model), in_bits(fitted.state), history, fitted.skipped, fitted.ended


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


KINDS = {"NaN": 1, "inf": 2, "-inf": 3, "gradient": 4}


@pytest.fixture
def a_step_a_call(monkeypatch):
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 1e-9)


# One step


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_leaves_model_and_optimizer_alone(kind):
    """Bit for bit; only the step counts on. Seen to fail where the gradient is not looked at."""
    state = train_state(MODEL, ADAM, key=jax.random.key(0))
    state, _ = train_step(state, X[:5], loss_function=distance, loss_kwargs=at([])(state.step))
    odd, value = train_step(
        state, X[:5], loss_function=distance, loss_kwargs={"kind": jnp.asarray(KINDS[kind])}
    )
    assert np.isfinite(value) == (kind == "gradient")
    assert in_bits(odd.model) == in_bits(state.model)
    assert in_bits(odd.opt_state) == in_bits(state.opt_state)
    assert (int(state.step), int(odd.step)) == (1, 2)
    after, _ = train_step(odd, X[:5], loss_function=distance, loss_kwargs=at([])(odd.step))
    assert in_bits(after.model) != in_bits(odd.model)


# A run


def by_hand(odd):
    """The model after two epochs of single steps, those of `odd` left out, and each epoch's loss.

    Written again here with optax alone."""

    @jax.jit
    def one(model, opt_state, x, key):
        def value(bias):
            moved = eqx.tree_at(lambda m: m.decoder.network.bias, model, bias)
            return distance(moved, Batch(x), key=key)[0]

        loss, gradient = jax.value_and_grad(value)(model.decoder.network.bias)
        updates, opt_state = MOMENTUM.update(gradient, opt_state)
        bias = model.decoder.network.bias + updates
        return eqx.tree_at(lambda m: m.decoder.network.bias, model, bias), opt_state, loss

    model, opt_state = MODEL, MOMENTUM.init(MODEL.decoder.network.bias)
    key, means = jax.random.fold_in(jax.random.key(0), 0), []
    for epoch in (1, 2):
        losses = []
        for i, batch in enumerate(epoch_batches(len(X), 5, seed=0, epoch=epoch)):
            step = 4 * (epoch - 1) + i
            if step not in odd:
                noise = jax.random.fold_in(key, step)
                model, opt_state, loss = one(model, opt_state, X[batch], noise)
                losses.append(float(loss))
        means.append(np.mean(losses) if losses else np.nan)
    return model, means


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_without_the_update(kind):
    """The first, the last and one within; the means of an epoch leave them out.

    Seen to fail on sums that hold the NaN, and on means over all steps.
    """
    odd = [0, 2, 7]
    fitted, told = given(lambda: train(odd, KINDS[kind]))
    model, means = by_hand(odd)
    bias = fitted.state.model.decoder.network.bias
    np.testing.assert_allclose(bias, model.decoder.network.bias, rtol=1e-5)
    assert [row["loss"] for row in fitted.history] == pytest.approx(means, rel=1e-5)
    assert [row["skipped"] for row in fitted.history] == [2, 1] and fitted.skipped == 3
    assert int(fitted.state.step) == 8 and fitted.ended == "finished"
    start = "skipped-update: the loss or its gradient was not finite at step"
    assert [message.split(":")[1] for message in told] == [
        f"{start} {step}".split(":")[1] for step in odd
    ]
    assert all("The update was skipped." in message for message in told)


def test_a_run_without_them_tells_of_none(tmp_path):
    fitted, told = given(lambda: train(folder=tmp_path))
    assert not told and fitted.skipped == 0
    assert all("skipped" not in row for row in fitted.history)
    assert not (tmp_path / "skipped.jsonl").exists()


def test_an_epoch_without_a_single_update(tmp_path):
    """Its means are of nothing: NaN, and null in the log."""
    fitted, told = given(lambda: train([0, 1, 2, 3], folder=tmp_path))
    assert len(told) == 4 and np.isnan(fitted.history[0]["loss"])
    assert fitted.history[1]["loss"] > 0 and "skipped" not in fitted.history[1]
    assert lines(tmp_path / "metrics.jsonl")[0]["loss"] is None


@pytest.mark.parametrize("streamed", [False, True])
def test_the_log_names_the_examples(streamed, tmp_path, monkeypatch):
    """Each step's own, from the shuffled order; the ELBO is that of the model that met it."""
    if streamed:
        monkeypatch.setattr(feed, "RESIDENT_BYTES", 0)
        monkeypatch.setattr(feed, "_STREAMED_BYTES", 3 * 5 * 12)
    odd, seen = [1, 3, 6], []
    fitted, told = given(lambda: train(odd, folder=tmp_path, callback=seen.append))
    found = lines(tmp_path / "skipped.jsonl")
    assert [(row["step"], row["epoch"]) for row in found] == [(1, 1), (3, 1), (6, 2)]
    for row, message in zip(found, told, strict=True):
        batches = epoch_batches(len(X), 5, seed=0, epoch=row["epoch"])
        assert row["examples"] == batches[row["step"] % 4].tolist()
        assert list(row) == ["step", "epoch", "elbo", "examples"]
        assert f"at step {row['step']}: ELBO {row['elbo']:.4g}." in message
    # Step 3 was left out, so that its model is that of the end of the epoch.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 3)
    elbo = jax.jit(lambda x: hamiltonian_elbo(seen[0].model, x, key=key))(X[found[1]["examples"]])
    assert found[1]["elbo"] == pytest.approx(float(elbo), rel=1e-5)
    assert fitted.skipped == 3


def test_the_log_of_an_hvae_has_step_sizes_and_gradients(tmp_path):
    """An outlier whose square overflows: by its index. With the loss of its own."""
    data = X.astype(jnp.zeros(()).dtype)
    data[11] = 10 * np.sqrt(np.finfo(data.dtype).max)
    model = moving(MODEL)
    fitted, told = given(
        lambda: train(
            folder=tmp_path,
            model=model,
            data=data,
            loss_function=None,
            loss_kwargs=None,
            flow_from_epoch=1,
        )
    )
    found = lines(tmp_path / "skipped.jsonl")
    assert 1 <= len(found) == fitted.skipped == len(told) <= 2  # once an epoch at most
    for row, message in zip(found, told, strict=True):
        assert 11 in row["examples"] and row["elbo"] is None
        assert len(row["step_size"]) == 2 and all(0.0 < size < 0.3 for size in row["step_size"])
        before = row["largest_gradient_of_U_before"]
        assert before is None or before > 1e18
        assert {"largest_gradient_of_U_after", "largest_energy_error"} <= row.keys()
        assert "step sizes 0." in message and "largest |grad U|" in message
    assert all(np.isfinite(row["elbo"]) and np.isfinite(row["loss"]) for row in fitted.history)


def test_the_gradient_of_u_is_that_of_the_potential(tmp_path):
    """At both ends of the trajectories of a batch, the largest."""
    model = moving(MODEL)

    def odd(model, batch, *, key):
        x = batch.x
        return (
            jnp.where(jnp.any(x[:, 0] < 1e9), jnp.nan, 0.0) + distance(model.vae, batch, key=key)[0]
        )

    options = {"model": model, "loss_function": odd, "loss_kwargs": None, "epochs": 1}
    given(lambda: train(folder=tmp_path, **options))
    row = lines(tmp_path / "skipped.jsonl")[2]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 2)

    @jax.jit
    def sizes(x):
        space = draw_batch(model, x, key=key).trajectory
        gradient = jax.vmap(lambda x, z: jax.grad(model.vae.potential(x), has_aux=True)(z)[0])
        return [
            jnp.max(jnp.linalg.norm(gradient(x, z), axis=-1)) for z in (space.z_init, space.z_final)
        ]

    before, after = sizes(X[row["examples"]])
    assert row["largest_gradient_of_U_before"] == pytest.approx(float(before), rel=1e-4)
    assert row["largest_gradient_of_U_after"] == pytest.approx(float(after), rel=1e-4)


@pytest.mark.parametrize("seconds", [1e-9, 1e9], ids=["a step a call", "an epoch a call"])
def test_the_length_of_a_call_changes_no_number(seconds, monkeypatch):
    expected, told = given(lambda: train([1, 2, 5]))
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", seconds)
    again, told_again = given(lambda: train([1, 2, 5]))
    assert numbers(again) == numbers(expected) and told_again == told


def test_the_best_model_is_untouched():
    """From the second epoch on all updates are left out; the first epoch's model is the best."""
    options = {"validation": X[:9], "max_skipped": 99}
    fitted, _ = given(lambda: train(range(4, 12), epochs=3, **options))
    alone = train(epochs=1, validation=X[:9])
    assert in_bits(fitted.model) == in_bits(fitted.state.model) == in_bits(alone.model)
    assert fitted.best_epoch == 1


# Too many in a row


def test_too_many_in_a_row_end_the_run(tmp_path):
    """With the step, what to try, a checkpoint and the best model of the first epoch.

    Seen to fail on a count that starts again in each epoch.
    """
    with pytest.raises(FloatingPointError) as raised, pytest.warns(SkippedUpdate) as told:
        train(range(6, 99), folder=tmp_path, epochs=5, max_skipped=4, validation=X[:9])
    message = str(raised.value)
    assert "not finite at step 9 (4 in a row): ELBO" in message
    assert "The run stops here." in message
    assert "hvax.prepare" in message and "a smaller learning rate" in message
    assert len(told) == 3  # the last one is the error
    assert [row["step"] for row in lines(tmp_path / "skipped.jsonl")] == [6, 7, 8, 9]
    assert [row["epoch"] for row in lines(tmp_path / "metrics.jsonl")] == [1, 2]
    best = load(tmp_path / "model", like=MODEL)
    first = train(epochs=1, validation=X[:9])
    second, _ = given(lambda: train([6, 7], validation=X[:9]))
    assert in_bits(best) == in_bits((first, second)[second.best_epoch - 1].model)
    # There is a checkpoint: it goes on from there, and gives up at the next.
    with pytest.raises(FloatingPointError, match=r"at step 10 \(5 in a row\)"):
        train(range(6, 99), folder=tmp_path, epochs=5, max_skipped=4, validation=X[:9])
    # With steps that are finite from there on it goes on.
    fitted = train(range(6, 11), folder=tmp_path, epochs=5, max_skipped=4, validation=X[:9])
    assert fitted.ended == "finished" and int(fitted.state.step) == 20
    assert fitted.skipped == 5
    assert [row["step"] for row in lines(tmp_path / "skipped.jsonl")] == [6, 7, 8, 9, 10]


def test_the_count_is_of_steps_in_a_row(a_step_a_call):
    """Two of three, throughout, are no three in a row."""
    odd = [step for step in range(12) if step % 3]
    fitted, told = given(lambda: train(odd, epochs=3, max_skipped=3))
    assert fitted.skipped == len(told) == 8
    with pytest.raises(FloatingPointError, match="at step 2 "), pytest.warns(SkippedUpdate):
        train(odd, epochs=3, max_skipped=2)


def test_one_is_too_many():
    with pytest.raises(FloatingPointError, match="not finite at step 3: ELBO"):
        train([3], max_skipped=1)


def test_the_message_says_how_many_in_a_row():
    _, told = given(lambda: train([1, 2, 3, 5]))
    assert ["in a row" in message for message in told] == [False, True, True, False]
    assert "(2 in a row)" in told[1] and "(3 in a row)" in told[2]


# Resumed


@pytest.mark.parametrize(
    ("save_steps", "epoch"),
    [(1, 1), (2, 1), (3, 1), (3, 2), (5, 2)],
)
def test_a_resume_with_skipped_steps_is_the_whole_run(save_steps, epoch, tmp_path, a_step_a_call):
    """Each step is in the log once, in order, wherever the crash was."""
    odd = [1, 2, 4, 5]
    expected, _ = given(lambda: train(odd))

    def crash(event):
        if event.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        given(lambda: train(odd, folder=tmp_path, save_steps=save_steps, callback=crash))
    again, _ = given(lambda: train(odd, folder=tmp_path, save_steps=save_steps))
    assert numbers(again) == numbers(expected)
    assert [row["step"] for row in lines(tmp_path / "skipped.jsonl")] == odd


def test_a_count_in_a_row_is_resumed(tmp_path, a_step_a_call):
    """Two before the stop and one after it are three in a row."""
    odd = [2, 3, 4]

    def stop(event):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"), pytest.warns(SkippedUpdate):
        train(odd, folder=tmp_path, max_skipped=3, callback=stop)
    with pytest.raises(FloatingPointError, match=r"at step 4 \(3 in a row\)"):
        train(odd, folder=tmp_path, max_skipped=3)


def test_a_line_of_the_log_that_a_crash_has_cut_is_removed(tmp_path):
    given(lambda: train([1, 3], folder=tmp_path, epochs=1))
    log = tmp_path / "skipped.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 5, "epo')
    given(lambda: train([1, 3, 6], folder=tmp_path))
    assert [row["step"] for row in lines(log)] == [1, 3, 6]
    assert log.read_text().startswith(whole)


def test_a_line_that_is_cut_and_the_only_one_is_removed(tmp_path):
    train(folder=tmp_path, epochs=1)
    (tmp_path / "skipped.jsonl").write_text('{"step": 5, "epo')
    given(lambda: train([6], folder=tmp_path))
    assert [row["step"] for row in lines(tmp_path / "skipped.jsonl")] == [6]


# Diverged trajectories


def hvae(step_size):
    """Without tempering, which diverges only where the step is too large."""
    return HVAE(MODEL, HamiltonianFlow(6, np.asarray(step_size)))


def diverging(step_size, **options):
    model = hvae(step_size)
    defaults = {"epochs": 1, "optimizer": optax.sgd(0.0), "loss_kwargs": None}
    return train(model=model, **(defaults | {"loss_function": None} | options))


def test_many_diverged_trajectories_are_told_of():
    with pytest.warns(DivergentTrajectories) as told:
        fitted = diverging(1.0)
    fraction = fitted.history[0]["divergent"]
    assert fraction > 0.1
    (message,) = (str(one.message) for one in told)
    assert message.startswith(f"divergent-trajectories: {100 * fraction:.3g}% of the")
    assert "epoch 1 diverged" in message and "step_size" in message and "num_steps" in message


def test_few_are_not():
    assert diverging(0.05).history[0]["divergent"] == 0


@pytest.mark.parametrize(("fraction", "warned"), [(0.0078125, 0), (0.015625, 2), (1.0, 2)])
def test_the_limit_is_a_hundredth_of_an_epochs(fraction, warned):
    """By a loss that reports so."""

    def loss_function(model, batch, *, key, share):
        return distance(model, batch, key=key)[0], {"divergent": share}

    options = {"loss_function": loss_function, "loss_kwargs": lambda step: {"share": 0.0 + share}}
    share = fraction
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(**options)
    assert [one.category for one in caught] == [DivergentTrajectories] * warned


def test_lines_of_the_log_that_are_none_of_ours_are_left_out(tmp_path):
    """Seen to fail, with a TypeError, where a step was a list."""
    ours = '{"step": 3, "epoch": 1, "examples": [1]}\n'
    (tmp_path / "skipped.jsonl").write_text(ours + '{"step": [1]}\n[1]\n{"step": 9}\n{"st')
    RunFolder(tmp_path).go_back_to(5, [])
    assert (tmp_path / "skipped.jsonl").read_text() == ours
