"""A run that was stopped and resumed ends in the bits of one that never was."""

import json
import os
import shutil
import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hvax.data.examples import Examples
from hvax.storage.structure import digest, load
from hvax.training import feed, loop
from hvax.training.fit import fit
from models_for_tests import in_bits, linear_gaussian, moving
from settings_for_tests import but_slow

X = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
MODEL = linear_gaussian()
FAR = eqx.tree_at(lambda m: m.decoder.network.bias, MODEL, jnp.full(3, 5.0))
MOMENTUM = optax.sgd(0.05, momentum=0.9)
STEPS = 8  # two epochs of four


class At:
    """What happens on the host within a step; `at(step)` is set by a test."""

    def __init__(self):
        self.at = None

    def __call__(self, step):
        if self.at is not None:
            self.at(int(step))


WITHIN = At()


@pytest.fixture(autouse=True)
def nothing_happens_within_a_step():
    yield
    WITHIN.at = None


def distance(model, batch, *, key, step, away_at=10**6):
    """The squared distance of the bias from x, with noise; from `away_at` on the other way."""
    x = batch.x
    jax.debug.callback(WITHIN, step)
    noise = 0.1 * jax.random.uniform(key, x.shape)
    value = jnp.mean((x + noise - model.decoder.network.bias[None]) ** 2)
    return jnp.where(step < away_at, 1.0, -1.0) * value, {"largest": jnp.max(x)}


def with_step(step):
    return {"step": step}


def there_and_back(step):
    """Towards the data for two epochs, then away from them."""
    return {"step": step, "away_at": 8}


def jitter(batch, *, key):
    return batch._replace(x=batch.x + 0.1 * jax.random.uniform(key, batch.x.shape))


# Every kind of run, each with what tells it from the first.
KINDS = {
    "plain": {},
    "validation": {"validation": X[:9]},
    "patience": {
        "model": FAR,
        "validation": X,
        "epochs": 20,
        "patience": 2,
        "loss_kwargs": there_and_back,
        "optimizer": optax.sgd(0.2),
    },
    "streamed": {"validation": X[:9]},
    "transform": {"transform": jitter, "optimizer": optax.adam(0.05)},
    "pairs": {"data": (X, X + 1), "validation": (X[:9], X[:9])},
}


def options_of(kind, monkeypatch):
    if kind == "streamed":  # three batches at a time of an epoch's four
        monkeypatch.setattr(feed, "RESIDENT_BYTES", 0)
        monkeypatch.setattr(feed, "_STREAMED_BYTES", 3 * 5 * 12)
    return KINDS[kind]


def train(folder=None, *, model=MODEL, data=X, **options):
    """Goes on with the run in a folder, where there is one."""
    defaults = {
        "epochs": 2,
        "batch_size": 5,
        "optimizer": MOMENTUM,
        "loss_function": distance,
        "loss_kwargs": with_step,
        "progress": False,
        "resume": folder is not None,
        "run_dir": folder,
        "handle_signals": True,
    }
    return fit(model, data, **(defaults | options))


def no_clock(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def numbers(fitted):
    """All of a run's numbers, bit for bit: everything but seconds."""
    return {
        "model": in_bits(fitted.model),
        "state": in_bits(fitted.state),
        "step": int(fitted.state.step),
        "history": no_clock(fitted.history),
        "best_epoch": fitted.best_epoch,
        "ended": fitted.ended,
        "skipped": fitted.skipped,
    }


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def check_files(folder, fitted):
    """The files of a run are those of its `Fit`: each epoch once, and the best model."""
    assert metrics(folder) == fitted.history
    assert in_bits(load(folder / "model", like=fitted.model)) == in_bits(fitted.model)
    assert not list((folder / "checkpoints").glob(".*.*"))  # nothing temporary


def check_equal(folder, fitted, expected):
    assert numbers(fitted) == expected
    check_files(folder, fitted)


@pytest.fixture(scope="module")
def uninterrupted():
    """uninterrupted(kind, **options): the numbers of a run without a folder, computed once."""
    known = {}

    def run(kind="plain", **options):
        name = (kind, *sorted(options.items()))
        if name not in known:
            with pytest.MonkeyPatch.context() as monkeypatch:
                known[name] = numbers(train(**(options_of(kind, monkeypatch) | options)))
        return known[name]

    return run


@pytest.fixture
def a_step_a_call(monkeypatch):
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 1e-9)


def test_a_folder_changes_no_number(tmp_path, uninterrupted):
    for save_steps in (None, 3):
        folder = tmp_path / str(save_steps)
        check_equal(folder, train(folder, save_steps=save_steps), uninterrupted())


# Where it stops


@pytest.mark.parametrize("save_steps", but_slow((1, 2, 3, 7), keep=(1, 3)))
def test_a_run_killed_at_any_step_ends_in_the_same_bits(save_steps, tmp_path, uninterrupted):
    """Copies of the folder, taken within every step, are what a kill would leave there.

    Seen to fail on an epoch's sums that start from zero, and on an order of batches that starts
    again from the first.
    """
    folder, options = tmp_path / "run", KINDS["validation"] | {"save_steps": save_steps}
    expected, copies = uninterrupted("validation"), {}

    def copy(step):
        known = sorted(path.name for path in folder.rglob("*.json*")), len(metrics(folder))
        if str(known) not in copies:
            copies[str(known)] = shutil.copytree(folder, tmp_path / str(step))

    WITHIN.at = copy
    check_equal(folder, train(folder, **options), expected)
    WITHIN.at = None
    assert len(copies) >= 1 + (STEPS - 1) // save_steps
    for killed in copies.values():
        check_equal(killed, train(killed, **options), expected)


def test_a_run_killed_before_any_rename_ends_in_the_same_bits(tmp_path, monkeypatch, uninterrupted):
    """Seen to fail on a record that is renamed before its arrays."""
    folder, options = tmp_path / "run", KINDS["validation"] | {"save_steps": 4}
    expected, replace, copies = uninterrupted("validation"), os.replace, []

    def copying(*names):
        copies.append(shutil.copytree(folder, tmp_path / f"{len(copies)}"))
        replace(*names)

    monkeypatch.setattr(os, "replace", copying)
    train(folder, **options)
    monkeypatch.undo()
    # At two epochs and at the end: state, best, record, weights, structure, where they are new.
    assert len(copies) >= 10
    for killed in copies:
        check_equal(killed, train(killed, **options), expected)


def ctrl_c(step):
    signal.raise_signal(signal.SIGINT)


def sigterm(step):
    signal.raise_signal(signal.SIGTERM)


def both(step):
    """The second ends the process at once."""
    ctrl_c(step)
    sigterm(step)


def error(step):
    raise RuntimeError("mine")


STOPS = {
    "Ctrl-C": (ctrl_c, None),
    "SIGTERM": (sigterm, None),
    # The second signal raises where Python is: in the loop, or in the host's part of the step.
    "twice": (both, (SystemExit, jax.errors.JaxRuntimeError)),
    "error": (error, jax.errors.JaxRuntimeError),
}


def stop(folder, step, how="Ctrl-C", **options):
    """A run that is stopped within a step, counted from 0."""
    end, raised = STOPS[how]
    WITHIN.at = lambda now: end(now) if now == step else None
    if raised is None:
        fitted = train(folder, **options)
        assert fitted.ended == {"Ctrl-C": "interrupted", "SIGTERM": "terminated"}[how]
        assert int(fitted.state.step) == step + 1
        check_files(folder, fitted)
    else:
        with pytest.raises(raised):
            train(folder, **options)
    WITHIN.at = None


@pytest.mark.parametrize(("how", "step"), [*((how, 5) for how in STOPS), ("error", 0)])
def test_whatever_stops_a_run(how, step, tmp_path, a_step_a_call, uninterrupted):
    """Within the second epoch, and in the first step of all; what a crash takes is done again."""
    stop(tmp_path, step, how, **KINDS["validation"], save_steps=2)
    check_equal(tmp_path, train(tmp_path, **KINDS["validation"]), uninterrupted("validation"))


@pytest.mark.parametrize(
    ("kind", "step"), [("patience", 9), ("streamed", 1), ("transform", 1), ("pairs", 1)]
)
def test_every_kind_of_run(kind, step, tmp_path, monkeypatch, a_step_a_call, uninterrupted):
    """Stopped within an epoch, and by a callback's error at the end of one.

    Patience after the best epoch: seen to fail on a best model that is forgotten.
    """
    options = options_of(kind, monkeypatch)
    stop(tmp_path, step, **options)

    def fail(event):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        train(tmp_path, **options, callback=fail)
    assert len(metrics(tmp_path)) == step // 4 + 1
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 1.0)
    check_equal(tmp_path, train(tmp_path, **options), uninterrupted(kind))


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_a_callbacks_exit_costs_the_steps_since_a_checkpoint(ending, tmp_path, uninterrupted):
    """They are no errors, and nothing is saved on them: the epoch's line is in the log already, and
    stands there once in the end."""

    def leave(event):
        if event.epoch == 2:
            raise ending

    with pytest.raises(ending):
        train(tmp_path, save_steps=3, callback=leave)
    assert [row["epoch"] for row in metrics(tmp_path)] == [1, 2]
    check_equal(tmp_path, train(tmp_path), uninterrupted())


def test_an_error_of_a_callback_saves_what_was_done(tmp_path, uninterrupted):
    def fail(event):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        train(tmp_path, callback=fail)
    traced = []

    def counted(event):
        traced.append(event.epoch)

    fitted = train(tmp_path, callback=counted)
    assert traced == [2]  # the first epoch is not done again
    check_equal(tmp_path, fitted, uninterrupted())


def test_an_optimizer_with_numbers_in_its_state(tmp_path, a_step_a_call):
    """A schedule counts on, and learning rates that are arrays come back."""
    schedule = optax.exponential_decay(0.05, 2, 0.5)
    optimizer = optax.inject_hyperparams(optax.adamw)(schedule, weight_decay=0.1)
    expected = numbers(train(optimizer=optimizer))
    stop(tmp_path, 4, optimizer=optimizer)
    check_equal(tmp_path, train(tmp_path, optimizer=optimizer), expected)


def test_an_hvae_with_its_own_loss(tmp_path, a_step_a_call):
    """The loss, the ELBO and the fraction of diverged trajectories of an epoch come back."""
    options = {
        "model": moving(MODEL),
        "loss_function": None,
        "loss_kwargs": None,
        "flow_from_epoch": 1,
    }
    expected = numbers(train(**options))

    calls = []  # the first batch is seen once more, for the step size to start with

    def seen():
        calls.append(None)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)

    def interrupt_at_once(batch, *, key):
        jax.debug.callback(seen)
        return batch

    stopped = train(tmp_path, **options, transform=interrupt_at_once)
    assert int(stopped.state.step) == 1
    check_equal(tmp_path, train(tmp_path, **options), expected)


def test_bfloat16_and_what_does_not_train_come_back(tmp_path, a_step_a_call):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), MODEL.decoder.network)
    model = eqx.tree_at(lambda m: m.decoder.network, MODEL, half)
    expected = numbers(train(model=model))
    stop(tmp_path, 2, model=model)
    check_equal(tmp_path, train(tmp_path, model=model), expected)


# What a resumed run may have otherwise


def test_more_epochs_are_a_longer_run(tmp_path, uninterrupted):
    """Seen to fail on a finished run that stays one."""
    check_equal(tmp_path, train(tmp_path, epochs=1), uninterrupted(epochs=1))
    check_equal(tmp_path, train(tmp_path, epochs=2), uninterrupted())
    check_equal(tmp_path, train(tmp_path, epochs=4), uninterrupted(epochs=4))


def test_save_options_and_a_callback_may_change(tmp_path, a_step_a_call, uninterrupted):
    stop(tmp_path, 2, save_steps=1)
    fitted = train(tmp_path, save_seconds=1e-9, max_skipped=1, callback=lambda event: None)
    check_equal(tmp_path, fitted, uninterrupted())


def test_a_checkpoint_after_some_seconds(tmp_path):
    """In so short a time that there is one after every call."""
    seen = []

    def look(step):
        seen.append(max(int(p.stem) for p in (tmp_path / "checkpoints").glob("*.json")))

    WITHIN.at = lambda step: look(step) if step else None
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loop, "_CHUNK_SECONDS", 1e-9)
        train(tmp_path, save_seconds=1e-9)
    assert seen == list(range(1, STEPS))


def test_resuming_where_there_is_nothing_starts_a_run(tmp_path, uninterrupted):
    for folder in (tmp_path, tmp_path / "new" / "run"):
        check_equal(folder, train(folder), uninterrupted())


# What came to its end


def traced_losses(traces):
    def counted(*args, **kwargs):
        traces.append(None)
        return distance(*args, **kwargs)

    return counted


@pytest.mark.parametrize("ended", ["finished", "early stop", "callback"])
def test_a_run_that_is_over_is_left_alone(ended, tmp_path):
    kinds = {
        "finished": {},
        "early stop": KINDS["patience"],
        "callback": {"callback": lambda event: True},
    }
    options, traces = kinds[ended], []
    fitted = train(tmp_path, **options)
    assert fitted.ended == ended
    for _ in range(2):
        again = train(tmp_path, **options, loss_function=traced_losses(traces))
        assert not traces
        check_equal(tmp_path, again, numbers(fitted))
        assert again.history == fitted.history  # with its seconds
        assert again.seconds_compiling == fitted.seconds_compiling


@pytest.mark.parametrize("ended", ["early stop", "callback"])
def test_an_end_stays_one_with_more_epochs(ended, tmp_path):
    options = {"early stop": KINDS["patience"], "callback": {"callback": lambda event: True}}
    fitted = train(tmp_path, **options[ended])
    again = train(tmp_path, **(options[ended] | {"epochs": 30}))
    assert numbers(again) == numbers(fitted) and again.ended == ended


def test_more_patience_goes_on(tmp_path, uninterrupted):
    options = KINDS["patience"]
    train(tmp_path, **(options | {"patience": 1}))
    check_equal(tmp_path, train(tmp_path, **options), uninterrupted("patience"))


@pytest.mark.parametrize("how", ["Ctrl-C", "error"])
def test_an_end_that_comes_with_an_early_stop_does_not_undo_it(how, tmp_path, uninterrupted):
    """The run would have stopped after that epoch anyway."""
    expected = uninterrupted("patience")
    last = len(expected["history"])

    def callback(event):
        if event.epoch == last:
            ctrl_c(None) if how == "Ctrl-C" else error(None)

    options = KINDS["patience"]
    if how == "Ctrl-C":
        assert train(tmp_path, **options, callback=callback).ended == "interrupted"
    else:
        with pytest.raises(RuntimeError, match="mine"):
            train(tmp_path, **options, callback=callback)
    check_equal(tmp_path, train(tmp_path, **options), expected)


def test_ctrl_c_in_a_callback_that_ends_the_run(tmp_path, uninterrupted):
    def end(event):
        return True

    def end_too(event):
        ctrl_c(None)
        return True

    train(tmp_path, callback=end_too)
    fitted = train(tmp_path, callback=end)
    assert len(fitted.history) == 1 and fitted.ended == "callback"


def test_ctrl_c_in_the_last_epoch(tmp_path, uninterrupted):
    def press(event):
        if event.epoch == 2:
            ctrl_c(None)

    assert train(tmp_path, callback=press).ended == "interrupted"
    check_equal(tmp_path, train(tmp_path), uninterrupted())


def test_without_validation_the_model_is_the_last(tmp_path, a_step_a_call):
    stop(tmp_path, 5)
    WITHIN.at = lambda step: ctrl_c(step) if step == 6 else None
    fitted = train(tmp_path)
    assert int(fitted.state.step) == 7
    assert in_bits(fitted.model) == in_bits(fitted.state.model)


def test_an_error_after_the_last_step_of_an_epoch(tmp_path, monkeypatch, uninterrupted):
    """The epoch's steps are all done, and it is not over: streamed data have no more batches."""
    from hvax.training.validation import Validation

    options, call = options_of("streamed", monkeypatch), Validation.__call__

    def fail(self, model):
        raise RuntimeError("mine")

    monkeypatch.setattr(Validation, "__call__", fail)
    with pytest.raises(RuntimeError, match="mine"):
        train(tmp_path, **options)
    monkeypatch.setattr(Validation, "__call__", call)
    check_equal(tmp_path, train(tmp_path, **options), uninterrupted("streamed"))


# The files


def test_lines_beyond_the_checkpoint_are_taken_back(tmp_path, a_step_a_call, uninterrupted):
    """Also one that a crash has cut short; seen to fail where they are not taken back."""
    stop(tmp_path, 5)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 8, "loss": 0.1}\n{"epoch": 3, "step": 1')
    check_equal(tmp_path, train(tmp_path), uninterrupted())


def test_lines_that_are_missing_come_back(tmp_path, a_step_a_call, uninterrupted):
    stop(tmp_path, 5)
    (tmp_path / "metrics.jsonl").unlink()
    check_equal(tmp_path, train(tmp_path), uninterrupted())


@pytest.mark.parametrize(
    "ended",
    [
        "finished",
        "early stop",
    ],
)
def test_a_model_that_is_missing_comes_back(ended, tmp_path):
    """It is written after the checkpoint, so that a crash may come in between."""
    options = {"finished": {}, "early stop": KINDS["patience"]}[ended]
    fitted = train(tmp_path, **options)
    shutil.rmtree(tmp_path / "model")
    again = train(tmp_path, **options)
    assert again.ended == fitted.ended == ended
    check_equal(tmp_path, again, numbers(fitted))


def test_a_damaged_checkpoint_costs_the_steps_since_another(tmp_path, uninterrupted):
    """Of a finished run: from the checkpoint before it, the end is reached again."""
    folder = tmp_path / "run"
    train(folder, save_steps=3)
    for name in ("000000000008.json", "state-*"):
        damaged = shutil.copytree(folder, tmp_path / name.strip("*"))
        latest = json.loads((folder / "checkpoints" / "000000000008.json").read_text())
        state = latest["files"]["state"]["file"]
        file = damaged / "checkpoints" / (state if "state" in name else name)
        file.write_bytes(file.read_bytes()[:-3])
        with pytest.warns(UserWarning, match=rf"^damaged-checkpoint: .*{file.name}.* from step 6"):
            fitted = train(damaged, save_steps=3)
        check_equal(damaged, fitted, uninterrupted())
        check_equal(damaged, train(damaged), uninterrupted())  # and without a warning


@pytest.mark.parametrize("failing", but_slow((1, 2, 3, 4, 5, 6, 8, 13), keep=(1, 3, 8)))
def test_a_full_disk_ends_a_run_that_resumes_when_there_is_room(
    failing, tmp_path, monkeypatch, uninterrupted
):
    """From the n-th rename on: the metrics, each file of the first checkpoint, and later ones."""
    expected = uninterrupted("patience")
    replace, calls = os.replace, []

    def full(*names):
        calls.append(names)
        if len(calls) >= failing:
            raise OSError(28, "No space left on device")
        replace(*names)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        train(tmp_path, **KINDS["patience"], save_steps=3)
    monkeypatch.undo()
    check_equal(tmp_path, train(tmp_path, **KINDS["patience"]), expected)


# What is refused


def contents(folder):
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "run"
    train(folder, data=Examples((X * 10).astype(np.int16)))
    return folder


INTS = (X * 10).astype(np.int16)
SMALLER = linear_gaussian(latent=1)
MORE = moving(MODEL)
OTHERS = {
    "seed": ({"seed": 1}, "another seed: 0 there, 1 here"),
    "batch size": ({"batch_size": 4}, "another batch_size: 5 there, 4 here"),
    "fewer examples": ({"data": INTS[:20]}, r"another examples: \[23, \[3\]\] there, \[20, "),
    "other examples": ({"data": INTS[::-1]}, "another digest of the data"),
    "other dtype": ({"data": INTS.astype(np.int32)}, "another digest of the data"),
    "pairs": ({"data": (INTS, INTS)}, "another examples"),
    "smaller model": ({"model": SMALLER}, r"another model .* at .*model.* it has float.* this run"),
    "other kind": ({"model": MORE}, "another model or optimizer: at .* it has .*nothing"),
    "other optimizer": ({"optimizer": optax.sgd(0.05)}, r"or optimizer: at .*opt_state.*nothing"),
    "momentum": ({"optimizer": optax.adam(optax.constant_schedule(0.1))}, "at .*opt_state"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_was_started_otherwise_is_refused(other, other_run):
    """By name, and with the run as it was; seen to fail on a digest of the shape alone."""
    changed, message = OTHERS[other]
    before = contents(other_run)
    with pytest.raises(ValueError, match=message):
        train(other_run, **({"data": INTS} | changed))
    assert contents(other_run) == before


def test_the_same_numbers_with_another_scale_are_other_data(other_run):
    with pytest.raises(ValueError, match="another"):
        train(shutil.copytree(other_run, other_run.parent / "copy"), data=Examples(INTS, scale=9.0))


def test_float64_is_not_float32(tmp_path):
    """Either way; without a warning about damage, as there is none."""
    with jax.enable_x64(False):
        narrow = train(tmp_path / "narrow", model=linear_gaussian())
    with jax.enable_x64(True):
        train(tmp_path / "wide", model=linear_gaussian())
        with pytest.raises(ValueError, match=r"float32.* this run float64"):
            train(tmp_path / "narrow", model=linear_gaussian())
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"64-bit arrays.*jax_enable_x64"):
            train(tmp_path / "wide", model=linear_gaussian())
        again = train(tmp_path / "narrow", model=linear_gaussian())
        assert numbers(again) == numbers(narrow)


def test_a_folder_that_holds_a_run_is_not_written_over(other_run):
    before = contents(other_run)
    with pytest.raises(ValueError, match=r"holds a run already. Continue it with resume=True"):
        train(other_run, data=INTS, resume=False)
    assert contents(other_run) == before


def test_resume_needs_a_folder():
    with pytest.raises(ValueError, match="resume needs the run_dir"):
        train(resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save_seconds": 0.0}, "save_seconds must be > 0, got 0"),
        ({"save_seconds": -1.0}, "save_seconds must be > 0, got -1"),
        ({"save_seconds": float("nan")}, "save_seconds must be > 0, got nan"),
        ({"save_steps": 0}, "save_steps must be >= 1, got 0"),
        ({"save_steps": -3}, "save_steps must be >= 1, got -3"),
        ({"max_skipped": 0}, "max_skipped must be >= 1, got 0"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_in_the_same_folder_is_refused(resume, tmp_path, uninterrupted):
    """While the first is running, and not afterwards; the first runs on. Seen to fail unlocked."""
    refusals = []

    def second(event):
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=r"another process is writing to .*another folder"):
            train(tmp_path, resume=resume)
        refusals.append(contents(tmp_path) == before)

    fitted = train(tmp_path, callback=second)
    assert refusals == [True, True]
    check_equal(tmp_path, fitted, uninterrupted())
    check_equal(tmp_path, train(tmp_path), uninterrupted())


def test_the_caller_keeps_the_model(tmp_path):
    before = in_bits(MODEL)
    train(tmp_path, epochs=1)
    train(tmp_path)
    assert in_bits(MODEL) == before


def test_a_digest_tells_runs_apart(tmp_path):
    """Equal for an uninterrupted and a resumed run; another seed has another."""
    one, other = train(), train(seed=1)
    train(tmp_path, epochs=1)
    assert digest(train(tmp_path).model) == digest(one.model) != digest(other.model)
