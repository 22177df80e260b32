"""The training loop: what it repeats bit for bit, what it keeps, when it ends, what it refuses."""

import signal
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hvax.batch import Batch
from hvax.checked_data import checked_training_data
from hvax.data.examples import Examples
from hvax.models.decoder import Decoder
from hvax.models.heads import SigmaHead
from hvax.models.likelihood import Bernoulli, LearnedGaussian, Poisson
from hvax.models.network import mlp
from hvax.models.vae import VAE
from hvax.training import feed, loop, programs
from hvax.training.fit import fit
from hvax.training.programs import clear_programs
from hvax.training.validation import Validation
from models_for_tests import linear_gaussian, moving

X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
MODEL = linear_gaussian()
FAR = eqx.tree_at(lambda m: m.decoder.network.bias, MODEL, jnp.full(3, 5.0))
SGD = optax.sgd(0.05)


def train(model=MODEL, data=X, **options):
    defaults = {"epochs": 2, "batch_size": 5, "optimizer": SGD, "progress": False}
    return fit(model, data, **(defaults | options))


def distance(model, batch, *, key, weight=1.0):
    """A loss that compiles at once: the squared distance of the bias from x, with noise."""
    x = batch.x
    noise = 0.1 * jax.random.normal(key, x.shape)
    return weight * jnp.mean((x + noise - model.decoder.network.bias[None]) ** 2)


def reporting(report):
    """`distance`, with what `report` makes of the batch beside it."""

    def loss_function(model, batch, *, key):
        x, target = batch.x, batch.target
        return distance(model, batch, key=key), report(x, target)

    return loss_function


def numbers(fitted):
    """All of a run's numbers, bit for bit: the history and the last state."""
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in fitted.history]
    state = eqx.tree_at(lambda s: s.key, fitted.state, jax.random.key_data(fitted.state.key))
    arrays = jax.tree.leaves(eqx.filter((fitted.model, state), eqx.is_array))
    return history, [(leaf.dtype, np.asarray(leaf).tobytes()) for leaf in arrays]


# What a run is a function of


@pytest.fixture(scope="module")
def run():
    """A short run with the model's own loss, on held-out data too."""

    def run(data=X, **options):
        return train(data=data, validation=X[:9], **options)

    return run


@pytest.fixture(scope="module")
def reference(run):
    return numbers(run())


def test_a_seed_repeats_a_run_bit_for_bit(run, reference):
    assert numbers(run()) == reference


def test_streamed_data_give_the_resident_run_bit_for_bit(run, reference, monkeypatch, tmp_path):
    """From a memory-mapped file, three batches at a time of an epoch's four: the last chunk is not
    full."""
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(feed, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(feed, "_STREAMED_BYTES", 3 * 5 * 12)
    assert isinstance(feed.feed(Batch(Examples(mapped)), 5), feed.StreamedFeed)
    assert numbers(run(mapped)) == reference


@pytest.mark.parametrize("seconds", [1e-9, 1e9], ids=["a step a call", "an epoch a call"])
def test_the_length_of_a_call_changes_no_number(seconds, monkeypatch):
    def end():
        return numbers(train(loss_function=distance, validation=X[:9]))

    expected = end()
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", seconds)
    assert end() == expected


def test_another_seed_is_another_run():
    one, two = (train(loss_function=distance, seed=seed) for seed in (0, 1))
    assert one.history[0]["loss"] != two.history[0]["loss"]


def test_one_program_serves_every_step(compilations, monkeypatch):
    """Whatever the number of epochs and the pieces of the data."""
    monkeypatch.setattr(feed, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(feed, "_STREAMED_BYTES", 3 * 5 * 12)
    clear_programs()
    fitted = train(loss_function=distance, epochs=3)
    assert compilations("program_of") == 1 and int(fitted.state.step) == 12
    assert fitted.seconds_compiling > 0 and fitted.seconds_training > 0


def test_later_epochs_and_the_next_fit_trace_nothing(compilations):
    traces = []

    def counted(*args, **kwargs):
        traces.append(None)
        return distance(*args, **kwargs)

    train(loss_function=counted, epochs=1)
    once = len(traces)
    fitted = train(loss_function=counted, epochs=4)
    assert len(traces) == once and compilations("program_of") == 1
    assert int(fitted.state.step) == 16


def test_few_programs_are_kept(monkeypatch):
    """Each maps memory, and a sweep over losses would make hundreds."""
    clear_programs()
    monkeypatch.setattr(programs, "MAX_PROGRAMS", 2)
    for i in range(4):
        train(loss_function=partial(distance, weight=1.0 + i), epochs=1)
    assert len(programs._programs) == 2
    clear_programs()


def test_the_caller_keeps_the_model():
    """The loop consumes the arrays that it is given; the caller's are not among them."""
    model = linear_gaussian()
    before = numbers_of(model)
    fitted = train(model, loss_function=distance, validation=X[:9])
    assert numbers_of(model) == before
    assert numbers_of(fitted.model) != before
    assert all(not leaf.is_deleted() for leaf in jax.tree.leaves(eqx.filter(fitted, eqx.is_array)))


def test_an_optimizer_may_begin_with_the_weights_themselves():
    """As one that averages them does; the loop consumes each array once."""

    def update(gradient, first, params=None):
        return jax.tree.map(lambda g: -0.05 * g, gradient), first

    keeping = optax.GradientTransformation(lambda params: params, update)
    fitted = train(optimizer=keeping, loss_function=distance)
    assert fitted.ended == "finished" and fitted.skipped == 0
    assert numbers_of(fitted.model) != numbers_of(MODEL)


def numbers_of(model):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(model)]


def test_a_callback_may_keep_its_models():
    kept = []
    train(loss_function=distance, callback=lambda event: kept.append(event.model))
    assert len({numbers_of(model)[0] for model in kept}) == 1  # a weight that does not train
    assert len({np.asarray(model.decoder.network.bias).tobytes() for model in kept}) == 2


# What it keeps, and when it ends


def there_and_back(step):
    """Towards the data, from `FAR`, for two epochs of four steps; then away from them."""
    return {"weight": jnp.where(step < 8, 1.0, -1.0)}


def test_the_best_model_is_that_of_the_best_validation_elbo():
    seen = []

    def keep(event):
        seen.append((event.metrics["validation_elbo"], numbers_of(event.model)))

    fitted = train(
        FAR,
        loss_function=distance,
        loss_kwargs=there_and_back,
        validation=X,
        epochs=6,
        callback=keep,
        optimizer=optax.sgd(0.2),
    )
    elbos = [elbo for elbo, _ in seen]
    assert fitted.best_epoch == 2 == 1 + int(np.argmax(elbos))
    assert numbers_of(fitted.model) == seen[1][1]
    assert numbers_of(fitted.state.model) == seen[-1][1] and fitted.ended == "finished"
    assert [row["validation_elbo"] for row in fitted.history] == elbos
    # It is the ELBO of Validation, with a key of the seed's own.
    key = jax.random.fold_in(jax.random.key(0), 1)
    again = Validation(Batch(Examples(X)), batch_size=256, key=key)(fitted.model)
    assert again["validation_elbo"] == elbos[1]


def test_several_draws_are_trained_and_watched():
    """The default loss is that of the draws, and the best epoch is that of their bound."""
    fitted = train(moving(MODEL), train_samples=3, validation=X, epochs=3)
    bounds = [row["validation_bound"] for row in fitted.history]
    assert fitted.best_epoch == 1 + int(np.argmax(bounds))
    for row in fitted.history:
        assert row["loss"] == pytest.approx(-row["bound"], rel=1e-5)
        assert row["bound"] > row["elbo"] and row["validation_bound"] > row["validation_elbo"]


def test_patience_counts_epochs_without_a_better_elbo():
    fitted = train(
        FAR,
        loss_function=distance,
        loss_kwargs=there_and_back,
        validation=X,
        epochs=20,
        patience=3,
        optimizer=optax.sgd(0.2),
    )
    assert (fitted.best_epoch, len(fitted.history), fitted.ended) == (2, 5, "early stop")


def test_without_validation_the_last_model_is_kept():
    fitted = train(loss_function=distance, epochs=3)
    assert fitted.best_epoch == 3
    assert numbers_of(fitted.model) == numbers_of(fitted.state.model)


def test_history_has_a_row_for_each_epoch():
    fitted = train(loss_function=distance, loss_kwargs={"weight": 2.0}, epochs=3)
    assert [(row["epoch"], row["step"]) for row in fitted.history] == [(1, 4), (2, 8), (3, 12)]
    seconds = [row["seconds"] for row in fitted.history]
    assert seconds == sorted(seconds)
    half = train(loss_function=distance, optimizer=optax.sgd(0.1), epochs=3)  # twice the rate
    for row, other in zip(fitted.history, half.history, strict=True):
        assert row["loss"] == pytest.approx(2 * other["loss"], rel=1e-5)


@pytest.mark.parametrize(("answer", "epochs"), [(True, 1), (1, 3)])
def test_a_callback_ends_the_run_by_true_alone(answer, epochs):
    events = []

    def callback(event):
        events.append((event.epoch, event.metrics["epoch"]))
        return answer

    fitted = train(loss_function=distance, callback=callback, epochs=3)
    assert events == [(epoch, epoch) for epoch in range(1, epochs + 1)]
    assert fitted.ended == ("callback" if answer is True else "finished")


def test_an_exception_in_a_callback_ends_the_run_with_it():
    handler = signal.getsignal(signal.SIGINT)

    def callback(event):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        train(loss_function=distance, callback=callback)
    assert signal.getsignal(signal.SIGINT) is handler


def at_epoch_2(number):
    def callback(event):
        if event.epoch == 2:
            signal.raise_signal(number)

    return callback


@pytest.mark.parametrize(
    ("number", "ended"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_signals_end_a_run_that_handles_them(number, ended):
    handler = signal.getsignal(number)
    options = {"loss_function": distance, "callback": at_epoch_2(number), "epochs": 5}
    fitted = train(**options, handle_signals=True)
    assert fitted.ended == ended and len(fitted.history) == 2
    assert signal.getsignal(number) is handler


@pytest.fixture
def pythons_own_ctrl_c():
    """A shell has its background processes ignore SIGINT; a notebook does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("pythons_own_ctrl_c")
def test_ctrl_c_raises_after_the_checkpoint(tmp_path):
    handler, options = signal.getsignal(signal.SIGINT), {"loss_function": distance, "epochs": 5}
    with pytest.raises(KeyboardInterrupt):
        train(**options, callback=at_epoch_2(signal.SIGINT), run_dir=tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    begun = []
    fitted = train(**options, run_dir=tmp_path, resume=True, callback=lambda e: begun.append(e[0]))
    assert begun == [3, 4, 5] and fitted.ended == "finished"
    assert numbers_of(fitted.model) == numbers_of(train(**options).model)


def test_handlers_of_the_callers_stay():
    """Of SIGTERM any, of SIGINT one that is not Python's own."""
    seen = []

    def mine(number, frame):
        seen.append(number)

    before = {n: signal.signal(n, mine) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            fitted = train(loss_function=distance, callback=at_epoch_2(number), epochs=3)
            assert fitted.ended == "finished"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert seen == list(before)


def test_ctrl_c_within_an_epoch_ends_it_after_the_steps_in_hand(monkeypatch):
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 1e-9)  # a step a call

    pressed = []

    def press(x):
        if not pressed:  # a second one would mean: at once
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)

    def loss_function(model, batch, *, key):
        x = batch.x
        jax.debug.callback(press, x)
        return distance(model, batch, key=key)

    fitted = train(loss_function=loss_function, validation=X, handle_signals=True)
    assert fitted.ended == "interrupted" and int(fitted.state.step) == 1
    # An epoch that is not over has no line, and the model is the last.
    assert fitted.history == [] and fitted.best_epoch == 0
    assert numbers_of(fitted.model) == numbers_of(fitted.state.model) != numbers_of(MODEL)


# What a step is given


def test_loss_kwargs_are_a_schedule_of_the_step():
    def loss_function(model, batch, *, key, w, fixed=(0.0, 3.0)):
        return w + fixed[1] + 0 * jnp.sum(model.decoder.network.bias)

    fitted = train(loss_function=loss_function, loss_kwargs=lambda step: {"w": step * 1.0})
    losses = [row["loss"] for row in fitted.history]
    assert losses == [3 + (0 + 1 + 2 + 3) / 4, 3 + (4 + 5 + 6 + 7) / 4]


def test_an_example_comes_at_most_once_in_an_epoch():
    """23 examples in 4 batches of 5: three are left out, and not the same ones."""
    seen = []

    def loss_function(model, batch, *, key):
        x = batch.x
        jax.debug.callback(lambda ids: seen.append(np.asarray(ids)), x[:, 0])
        return distance(model, batch, key=key)

    ids = np.repeat(np.arange(23, dtype=np.float32)[:, None], 3, axis=1)
    train(data=ids, loss_function=loss_function)
    jax.effects_barrier()
    epochs = np.concatenate(seen).reshape(2, 20)
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert sorted(epochs[0]) != sorted(epochs[1])


def test_transform_is_drawn_afresh_at_each_step():
    """Gray levels to bits: 15 pixels at 1/2, so that two equal draws have probability 2^-15."""
    gray = np.full((5, 3), 128, np.uint8)

    def bits(batch, *, key):
        return batch._replace(x=jax.random.bernoulli(key, batch.x).astype(jnp.float32))

    def report(x, target):
        return {"code": jnp.sum(x * 2.0 ** jnp.arange(15).reshape(5, 3)), "odd": jnp.sum(x % 1)}

    options = dict(loss_function=reporting(report), transform=bits, epochs=6)
    data = Examples(gray, scale=255.0)
    fitted = train(data=data, **options)
    codes = [row["code"] for row in fitted.history]
    assert len(set(codes)) == 6 and all(row["odd"] == 0 for row in fitted.history)
    assert [row["code"] for row in train(data=data, **options).history] == codes


def test_transform_sees_pairs_and_not_the_validation():
    def swap(batch, *, key):
        return Batch(batch.target, batch.x)

    difference = reporting(lambda x, target: {"d": jnp.mean(x - target)})
    pair = (X, X + 1)
    plain, swapped = (
        train(
            data=pair,
            validation=pair,
            transform=transform,
            loss_function=difference,
            optimizer=optax.sgd(0.0),
            epochs=1,
        ).history[0]
        for transform in (None, swap)
    )
    assert plain["d"] == pytest.approx(-1, rel=1e-5)
    assert swapped["d"] == pytest.approx(1, rel=1e-5)
    assert plain["validation_elbo"] == swapped["validation_elbo"]


def test_pairs_stay_together_whatever_their_shapes():
    x_in, target = np.arange(23.0, dtype=np.float32)[:, None], X.copy()
    target[:, 1] = np.arange(23)

    def loss_function(model, batch, *, key):
        x, target = batch.x, batch.target
        apart = jnp.max(jnp.abs(x[:, 0] - target[:, 1]))
        return distance(model, Batch(target), key=key), {"apart": apart}

    fitted = train(data=(x_in, target), loss_function=loss_function)
    assert [row["apart"] for row in fitted.history] == [0, 0]


def test_stored_integers_are_scaled_on_the_device():
    stored = np.random.default_rng(0).integers(0, 256, (23, 3)).astype(np.uint8)
    mean = reporting(lambda x, target: {"mean": jnp.mean(x), "square": jnp.mean(x**2)})
    scaled = train(data=Examples(stored, scale=255.0), loss_function=mean)
    plain = train(data=(stored / 255.0).astype(np.float32), loss_function=mean)
    for one, two in zip(scaled.history, plain.history, strict=True):
        for name in ("mean", "square", "loss"):
            assert one[name] == pytest.approx(two[name], rel=1e-6)


# What is refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
        ({"epochs": 0}, ValueError, "epochs must be >= 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        ({"batch_size": 24}, ValueError, "at most the number of examples, 23, got 24"),
        ({"patience": -1, "validation": X}, ValueError, "patience must be >= 0, got -1"),
        ({"patience": 3}, ValueError, "patience needs validation data"),
        ({"data": np.full((9, 3), np.nan)}, ValueError, "data must be finite, got nan"),
        ({"validation": np.full((9, 3), np.inf)}, ValueError, "validation must be finite"),
        (
            {"data": Examples(np.full((9, 3), np.nan))},
            ValueError,
            "data of a Gaussian must be finite",
        ),
        ({"data": np.zeros((0, 3))}, ValueError, "at least one example"),
        ({"data": (X, X, X)}, ValueError, r"data must be an array, a pair .* got 3 parts"),
        ({"data": (X, X[:4])}, ValueError, "data must have as many target as x, got 4 and 23"),
        ({"validation": (X, X[:4])}, ValueError, "validation must have as many"),
        ({"data": np.array([["a"]])}, TypeError, "booleans, integers or floats"),
        ({"data": np.array([[1j]])}, TypeError, "complex128"),
        ({"data": np.array([[None]])}, TypeError, "object"),
    ],
)
def test_what_is_refused_before_training(options, error, message):
    with pytest.raises(error, match=message):
        train(**options)


@pytest.mark.parametrize(
    ("likelihood", "x", "message"),
    [
        (Bernoulli(), np.full((9, 3), 1.5), r"data of a Bernoulli must be in \[0, 1\], got 1.5"),
        (Poisson(), np.full((9, 3), -1), "data of a Poisson must be whole counts >= 0, got -1"),
        (Poisson(), np.full((9, 3), 0.5), "whole counts >= 0, got 0.5"),
    ],
)
def test_data_outside_the_support_are_refused(likelihood, x, message):
    model = VAE(MODEL.encoder, Decoder(MODEL.decoder.network, likelihood))
    good = np.ones((9, 3))
    for data, validation in ((x, None), (good, x), ((good, x), None), ((good, good), (good, x))):
        with pytest.raises(ValueError, match=message):
            checked_training_data(model, data, validation)
    parts, held_out = checked_training_data(model, (x, good), (good, good))
    assert len(parts.parts()) == len(held_out.parts()) == 2
    with pytest.raises(ValueError, match=r"shape of data, {'x': \(3,\), 'target': \(3,\)}, got"):
        checked_training_data(model, (x, good), good)


def test_a_loss_function_returns_one_number():
    with pytest.raises(ValueError, match="loss_function must return one number"):
        train(loss_function=lambda model, batch, *, key: jnp.zeros(2))


def test_validation_data_of_another_shape_are_refused():
    traces = []

    def counted(*args, **kwargs):
        traces.append(None)
        return distance(*args, **kwargs)

    with pytest.raises((ValueError, TypeError), match="shape"):
        train(loss_function=counted, validation=np.ones((5, 4), np.float32))
    assert not traces


def test_data_beyond_the_range_of_the_computation_are_refused():
    with jax.enable_x64(False), pytest.raises(ValueError):
        train(data=np.full((20, 3), 3_000_000_000), loss_function=distance)
    with jax.enable_x64(False), pytest.raises(ValueError):
        train(data=np.full((20, 3), 1e300), loss_function=distance)


def test_a_report_may_hold_python_numbers():
    fitted = train(loss_function=reporting(lambda x, target: {"rows": x.shape[0]}), epochs=1)
    assert fitted.history[0]["rows"] == 5


@pytest.mark.parametrize("name", ["epoch", "step", "seconds", "loss"])
def test_a_report_may_not_hide_what_the_history_says(name):
    with pytest.raises(ValueError, match=f"loss_function must not report {name}"):
        train(loss_function=reporting(lambda x, target: {name: jnp.mean(x)}))


def test_a_constant_feature_stays_at_the_floor_of_sigma():
    """Its density would grow without end; seen to fall to -2.69 under the default floor of -10."""
    x = np.concatenate([X, np.full((len(X), 1), 0.5, np.float32)], axis=1)
    likelihood = LearnedGaussian()
    encoder, decoder = mlp((4,), 2, hidden=(8,), likelihood=likelihood, key=jax.random.key(0))
    floor = (decoder.network.log_sigma.lower, decoder.network.log_sigma.upper)
    assert floor == (-10, 10)
    head = SigmaHead(decoder.network.log_sigma.network, lower=-2.0, upper=2.0)
    decoder = eqx.tree_at(lambda d: d.network.log_sigma, decoder, head)
    fitted = train(VAE(encoder, decoder), x, epochs=400, optimizer=optax.adam(0.02))
    for z in jnp.eye(2):
        density = fitted.model.decoder(z)
        assert -2 < density.log_sigma[3] < -1.8 and abs(density.mean[3] - 0.5) < 0.1
    assert fitted.skipped == 0 and np.all(np.isfinite([row["loss"] for row in fitted.history]))
