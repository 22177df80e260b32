"""What `save` may touch in a folder, what it refuses beforehand, and a `load` beside it."""

import functools
import os
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hvax
from hvax.models.network import MLP, mlp
from hvax.models.vae import VAE
from hvax.parameters import Fixed
from hvax.storage.json_files import with_checksum
from hvax.storage.lock_file import open_locked
from hvax.storage.structure import STRUCTURE, check_saveable, folder, load, save


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


OTHERS = {
    "weights-of-mine.safetensors": b"somebody's",
    "weights-0123456789abcdef.safetensors": b"somebody's, of a name like ours",
    ".hidden": b"somebody's",
    "model.safetensors": b"somebody's",
}


def test_files_of_others_are_left_alone(tmp_path):
    """Seen to be deleted: all that were called weights-*.safetensors."""
    for name, content in OTHERS.items():
        (tmp_path / name).write_bytes(content)
    for number in (0.5, 0.25):
        save(Fixed(number), tmp_path)
        assert {n: c for n, c in contents(tmp_path).items() if n in OTHERS} == OTHERS
    assert len(contents(tmp_path)) == len(OTHERS) + 2
    assert load(tmp_path).value == np.float32(0.25)


@pytest.mark.parametrize(
    "content",
    [
        b'{"lattice": [1, 2, 3]}',
        b"[]",
        b"",
        b"{",
        b'{"format": 1}',
        b'{"format": 1, "weights": "x", "sha256": 1, "narrow": {}, "model": {}}',
        b"[" * 10**5,
        b"\xff\xfe\x00",
    ],
)
def test_a_structure_of_others_is_not_overwritten(content, tmp_path):
    """Seen to be overwritten without a word."""
    (tmp_path / STRUCTURE).write_bytes(content)
    for attempt in (save, check_saveable):
        with pytest.raises(ValueError, match=r"structure.json is not a file that hvax wrote, or"):
            attempt(Fixed(0.5), tmp_path)
    assert contents(tmp_path) == {STRUCTURE: content}


def test_a_folder_or_link_in_the_place_of_a_file_is_refused(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    save(Fixed(0.5), elsewhere)
    before = contents(elsewhere)
    (tmp_path / "a" / STRUCTURE).mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / STRUCTURE).symlink_to(elsewhere / STRUCTURE)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / STRUCTURE).symlink_to("nowhere")
    for name in "abc":
        with pytest.raises(ValueError, match=r"it is no plain file.*Move it away"):
            save(Fixed(0.25), tmp_path / name)
    assert contents(elsewhere) == before


def test_weights_of_our_name_with_other_content_stay(tmp_path):
    save(Fixed(0.5), tmp_path / "one")
    (weights,) = (tmp_path / "one").glob("weights-*")
    there = tmp_path / "two" / weights.name
    there.parent.mkdir()
    for wrong in (b"somebody's", b"x" * weights.stat().st_size):
        there.write_bytes(wrong)
        with pytest.raises(ValueError, match="holds something else than the weights"):
            save(Fixed(0.5), there.parent)
        assert contents(there.parent) == {weights.name: wrong}
    there.write_bytes(weights.read_bytes())  # what a kill leaves between two writes
    save(Fixed(0.5), there.parent)
    assert load(there.parent).value == np.float32(0.5)


def test_weights_of_ours_that_were_damaged_are_mended(tmp_path):
    save(Fixed(0.5), tmp_path)
    (weights,) = tmp_path.glob("weights-*")
    weights.write_bytes(b"damaged")
    save(Fixed(0.5), tmp_path)
    assert load(tmp_path).value == np.float32(0.5)


def test_nothing_is_removed_behind_a_link(tmp_path):
    """The folder is a link: the model there is replaced, and its weights are kept."""
    elsewhere = tmp_path / "elsewhere"
    save(Fixed(0.5), elsewhere)
    before = contents(elsewhere)
    (tmp_path / "model").symlink_to(elsewhere)
    save(Fixed(0.25), tmp_path / "model")
    after = contents(elsewhere)
    assert len(after) == 3 and all(after[n] == before[n] for n in before if n != STRUCTURE)
    assert load(tmp_path / "model").value == np.float32(0.25)


def test_weights_that_are_a_link_are_kept(tmp_path):
    folder, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    save(Fixed(0.5), folder)
    (weights,) = folder.glob("weights-*")
    weights.rename(elsewhere)
    weights.symlink_to(elsewhere)
    assert load(folder).value == np.float32(0.5)
    save(Fixed(0.25), folder)
    assert weights.is_symlink() and elsewhere.exists()
    assert load(folder).value == np.float32(0.25)


def test_a_model_of_a_newer_format_is_ours(tmp_path):
    (tmp_path / STRUCTURE).write_bytes(with_checksum({"format": 9, "arrays": "elsewhere"}))
    save(Fixed(0.5), tmp_path)
    assert load(tmp_path).value == np.float32(0.5)


def test_a_save_that_fails_leaves_nothing_of_its_own(tmp_path, monkeypatch):
    save(Fixed(0.5), tmp_path)
    before, replace = contents(tmp_path), os.replace

    def full(source, target):
        if str(target).endswith(STRUCTURE):
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        save(Fixed(0.25), tmp_path)
    assert contents(tmp_path) == before


# What cannot be saved


class Own(eqx.Module):
    held: object


class Scale:
    """Callable, with a number that its name does not tell."""

    def __init__(self):
        self.factor = jnp.ones(3)

    def __call__(self, x):
        return self.factor * x


@jax.tree_util.register_pytree_node_class
class Tree:
    def tree_flatten(self):
        return (jnp.ones(2),), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls()


class Longer(list):
    pass


UNSAVEABLE = {
    "a callable object": lambda: Scale(),
    "its method": lambda: Scale().__call__,
    "a registered class": lambda: Tree(),
    "a list of a kind": lambda: Longer([jnp.ones(2)]),
    "a masked array": lambda: np.ma.masked_array(np.ones(3), [True, False, False]),
    "objects": lambda: np.asarray([{}, None], object),
    "strings": lambda: np.asarray(["a", "b"]),
    "dates": lambda: np.asarray(["2020-01-01"], "M8[D]"),
    "records": lambda: np.zeros(2, [("a", "f4")]),
    "128 bits": lambda: np.zeros(2, np.complex128),
    "a set": lambda: {1, 2},
    "an object": lambda: object(),
    "a key of a dict": lambda: {(1, 2): jnp.ones(2)},
    "inside a partial": lambda: functools.partial(jnp.clip, min={1}),
    "a shape": lambda: jax.ShapeDtypeStruct((2,), jnp.float32),
}


@pytest.mark.parametrize("name", UNSAVEABLE)
def test_what_cannot_be_saved_is_refused_beforehand(name, tmp_path):
    model = Own([UNSAVEABLE[name]()])
    for attempt in (lambda: check_saveable(model), lambda: save(model, tmp_path / "x")):
        with pytest.raises(TypeError, match=r"at held\.0"):
            attempt()
    assert not (tmp_path / "x").exists()


def test_what_can_be_saved_is_not_refused(tmp_path):
    model = VAE(*mlp((3,), 2, hidden=(4,), key=jax.random.key(0)))
    check_saveable(model)
    check_saveable(model, tmp_path / "not there yet")
    save(model, tmp_path)
    check_saveable(model, tmp_path)


class Keyed(eqx.Module):
    """A network with a typed key, and numbers by the number of a layer."""

    network: MLP
    gains: dict
    key: jax.Array

    def __call__(self, x):
        return self.gains[1] * self.network(x)


def keyed(key):
    encoder, decoder = mlp((3,), 2, hidden=(4,), key=jax.random.key(0))
    network = Keyed(decoder.network, {1: jnp.ones(3), 0: jnp.ones(2)}, key)
    return VAE(encoder, eqx.tree_at(lambda d: d.network, decoder, network))


def test_a_fit_saves_keys_and_numbered_dicts(tmp_path):
    """Seen to end in a TypeError at the first save."""
    x = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
    model = keyed(jax.random.key(5))
    options = {"epochs": 1, "batch_size": 4, "progress": False}
    fitted = hvax.fit(model, x, run_dir=tmp_path, **options)
    back = load(tmp_path / "model", like=model)
    np.testing.assert_array_equal(
        back.decoder.network.gains[1], fitted.model.decoder.network.gains[1]
    )
    key = back.decoder.network.key
    assert jax.random.normal(key) == jax.random.normal(jax.random.key(5))


def test_a_fit_that_could_not_save_does_not_start(tmp_path):
    """Before the first epoch, and before anything is written."""
    encoder, decoder = mlp((3,), 2, hidden=(4,), key=jax.random.key(0))
    network = eqx.nn.Lambda(Scale())
    model = VAE(encoder, eqx.tree_at(lambda d: d.network, decoder, network))
    x = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
    with pytest.raises(TypeError, match=r"cannot save a Scale, at decoder\.network\.fn"):
        hvax.fit(model, x, epochs=1, batch_size=4, progress=False, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Two saves at a time


def test_a_save_waits_for_another(tmp_path, monkeypatch):
    """Of another process, which would remove weights that this one is about to name."""
    lock, waits = open_locked(tmp_path / folder.SAVING), []

    def pause(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            lock.release_and_remove()

    monkeypatch.setattr(folder.time, "sleep", pause)
    save(Fixed(0.5), tmp_path)
    assert len(waits) == 3 and len(contents(tmp_path)) == 2


def test_a_save_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(folder.time, "sleep", lambda _: None)
    lock = open_locked(tmp_path / folder.SAVING)
    save(Fixed(0.5), tmp_path)
    lock.release()
    assert load(tmp_path).value == np.float32(0.5)


def test_what_a_killed_save_leaves_goes_with_the_next(tmp_path):
    (tmp_path / folder.SAVING).touch()
    save(Fixed(0.5), tmp_path)
    assert len(contents(tmp_path)) == 2


# A load beside a save

SAVER = """
import sys, numpy as np, hvax
models = [hvax.Fixed(np.full(1000, number)) for number in (0.5, 0.25)]
while True:
    for model in models:
        hvax.save(model, sys.argv[1])
"""


def test_a_load_beside_a_save_of_another_process(tmp_path):
    """Seen to fail in 1 of 100: the weights were gone between two reads."""
    save(Fixed(np.full(1000, 0.5)), tmp_path)
    saver = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)])
    try:
        (first,) = tmp_path.glob("weights-*")
        deadline = time.monotonic() + 300  # a busy machine
        while first.exists():  # it has not begun
            assert saver.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        found, end = set(), time.monotonic() + 3
        while time.monotonic() < end:
            model = load(tmp_path)
            assert len(set(np.asarray(model.value).tolist())) == 1
            found.add(float(model.value[0]))
        assert found == {float(np.float32(0.5)), float(np.float32(0.25))}
    finally:
        saver.kill()
        saver.wait()


def test_a_load_between_the_two_writes_of_a_save_reads_again(tmp_path, monkeypatch):
    """As above, but at will: a save comes after the manifest was read, and before its weights."""
    save(Fixed(0.5), tmp_path)
    read, reads = folder.read, []

    def late(path, **options):
        reads.append(path)
        if len(reads) == 1:
            save(Fixed(0.25), tmp_path)
        return read(path, **options)

    monkeypatch.setattr(folder, "read", late)
    assert load(tmp_path).value == np.float32(0.25) and len(reads) == 2


def test_weights_that_are_truly_gone_are_told(tmp_path):
    save(Fixed(0.5), tmp_path)
    (weights,) = tmp_path.glob("weights-*")
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"the weights file .* is missing"):
        load(tmp_path)
