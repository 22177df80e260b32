"""Checkpoints come back bit for bit, or the one before them does, or nothing: never half of one."""

import contextlib
import os
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hvax.exceptions import DamagedCheckpoint
from hvax.storage.checkpoint import Checkpoints
from hvax.storage.json_files import verify_checksum, with_checksum
from hvax.storage.temporary import create_temporary
from hvax.training.state import train_state, train_step
from models_for_tests import in_bits, linear_gaussian, moving

ONES = jnp.ones(3, jnp.float32)
X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32))


def zeros(tree):
    """The same structure with other numbers."""

    def zero(leaf):
        if not eqx.is_array(leaf):
            return leaf
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                jnp.zeros_like(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf)
            )
        return jnp.zeros_like(leaf)

    return jax.tree.map(zero, tree)


def tree(step):
    """Small trees of a step: one that changes at each, and one that changes at every third."""
    return {"state": {"a": jnp.full(3, 1.0 + step), "n": step}, "best": [jnp.full(2, step // 3)]}


def like():
    return zeros(tree(0))


def written(folder, steps):
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.write(step, tree(step), {"step": step})
    return checkpoints


def check(folder, *steps):
    """What is read is the checkpoint of one of these steps, whole."""
    found = Checkpoints(folder).read(like())
    step = found.record["step"]
    assert step in steps
    assert in_bits(found.trees) == in_bits(tree(step))
    return step


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def manifest(folder, step):
    return verify_checksum((folder / f"{step:012}.json").read_bytes())


def rewrite(folder, step, change):
    """Changes a record, with a checksum that suits."""
    record = manifest(folder, step)
    change(record)
    (folder / f"{step:012}.json").write_bytes(with_checksum(record))


# What comes back


OPTIMIZERS = {
    "adam": optax.adam(0.02),
    "injected": optax.inject_hyperparams(optax.adamw)(
        optax.linear_schedule(0.1, 0.0, 9), weight_decay=0.1
    ),
    "momentum": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.02, momentum=0.9)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_state_comes_back_bit_for_bit(optimizer, tmp_path):
    """After two steps, so that moments are no zeros; keys of both kinds, static parts of `like`."""
    model = linear_gaussian()
    impl = "rbg" if optimizer == "momentum" else "threefry2x32"
    state = train_state(model, OPTIMIZERS[optimizer], key=jax.random.key(4, impl=impl))
    for _ in range(2):
        state, _ = train_step(state, X)
    best = moving(model)
    Checkpoints(tmp_path).write(2, {"state": state, "best": best}, {})
    found = Checkpoints(tmp_path).read({"state": zeros(state), "best": zeros(best)})
    assert in_bits(found.trees["state"]) == in_bits(state) != in_bits(zeros(state))
    assert in_bits(found.trees["best"]) == in_bits(best)
    assert jax.tree.structure(found.trees["state"]) == jax.tree.structure(state)
    assert found.trees["state"].key.dtype == state.key.dtype
    again, others = (train_step(one, X)[0] for one in (found.trees["state"], state))
    assert in_bits(again) == in_bits(others)


def test_every_number_comes_back(tmp_path):
    """Those that JSON does not have too, and every kind of array."""
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32)
    arrays = {
        "odd": jnp.asarray(odd),
        "scalar": jnp.asarray(3, jnp.int32),
        "empty": jnp.zeros((0, 4)),
        "half": jnp.asarray([0.1, 7.0], jnp.bfloat16),
        "bool": jnp.asarray([True, False]),
        "weak": jnp.asarray(0.25),
        "keys": jax.random.split(jax.random.key(1), 3),
        "text": "static",
        ("tuple", 1): jnp.ones(1),
        "']['": {"": jnp.ones(2)},
    }
    record = {"nan": float("nan"), "inf": -np.inf, "third": 1 / 3, "list": [1, "a", None, {}]}
    arrays = {str(name): value for name, value in arrays.items()}
    Checkpoints(tmp_path).write(7, {"all": arrays}, record)
    found = Checkpoints(tmp_path).read({"all": zeros(arrays)})
    assert in_bits(found.trees["all"]) == in_bits(arrays)
    assert found.trees["all"]["text"] == "static"
    assert np.isnan(found.record.pop("nan"))
    assert found.record == {name: value for name, value in record.items() if name != "nan"}


def test_an_empty_folder_holds_none(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        checkpoints = Checkpoints(folder)
        assert not checkpoints and checkpoints.read(like()) is None
    assert not (tmp_path / "missing").exists()


# The files


def test_two_are_kept_with_the_files_that_they_name(tmp_path):
    """Seen to fail on files of older checkpoints that stay."""
    for step in (0, 1, 2, 3, 4, 10**9, 10**12 + 5):
        checkpoints = written(tmp_path, [step])
        assert checkpoints and check(tmp_path, step) == step
    last = [10**9, 10**12 + 5]
    named = {entry["file"] for step in last for entry in manifest(tmp_path, step)["files"].values()}
    assert names(tmp_path) == sorted({*named, *(f"{step:012}.json" for step in last)})
    shutil.copy(tmp_path / "1000000000005.json", tmp_path / "copy.json")  # no checkpoint's name
    assert check(tmp_path, last[1]) == last[1]


def test_what_a_crash_has_left_is_removed(tmp_path):
    """Temporary files, and arrays that no record names but that their checksum does."""
    written(tmp_path, [1])
    temporary, descriptor = create_temporary(tmp_path)
    os.close(descriptor)  # as a kill does
    written(other := tmp_path / "other", [2])
    left = [shutil.copy(file, tmp_path / file.name).name for file in files_of(other, 2)[1:]]
    shutil.rmtree(other)
    check(tmp_path, 1)
    written(tmp_path, [3])
    assert not {temporary.name, *left} & set(names(tmp_path))


def test_files_of_others_stay(tmp_path):
    """Whatever they are called."""
    theirs = [
        "step-100.safetensors", "state-00.safetensors", "000000000002-state-0123abcd.safetensors",
        ".000000000002.json.x1y2z3", ".state-00.safetensors.abc", ".cache.db", ".lock", "notes.txt",
        "2024.json", "1.json", "0000000000001.json", "model.json", "²²²²²²²²²²²².json",
    ]  # fmt: skip
    for name in theirs:
        (tmp_path / name).write_text("mine")
    (tmp_path / "000000000004-state-0123abcd.safetensors").symlink_to("notes.txt")
    assert not Checkpoints(tmp_path)
    written(tmp_path, [1, 2, 3, 4])
    check(tmp_path, 4)
    Checkpoints(tmp_path).clear()
    assert {name for name in theirs if (tmp_path / name).read_text() == "mine"} == set(theirs)
    assert names(tmp_path) == sorted([*theirs, "000000000004-state-0123abcd.safetensors"])


@pytest.mark.parametrize("write", [2, 3, 9])
def test_a_damaged_record_is_set_aside_and_not_lost(write, tmp_path):
    """It may be somebody else's: nothing in it says that it is ours."""
    written(tmp_path, [1])
    for content in ("mine", "mine too"):
        (tmp_path / f"{3:012}.json").write_text(content)
        written(tmp_path, [write])
        check(tmp_path, write)
    aside = sorted(tmp_path.glob("*.damaged*"))
    assert [path.read_text() for path in aside] == ["mine", "mine too"]


def test_a_step_may_be_written_again(tmp_path):
    written(tmp_path, [1, 2])
    Checkpoints(tmp_path).write(2, tree(2), {"step": 2, "ended": "finished"})
    assert Checkpoints(tmp_path).read(like()).record["ended"] == "finished"
    (tmp_path / "000000000002.json").unlink()
    assert check(tmp_path, 1) == 1


# Damage


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "a bit": flip,
    "the last bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "cut": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "garbage": lambda content: b"\xff{]" * 30,
    "JSON": lambda content: b"[1, 2]",
    "other JSON": lambda content: b'{"format": 1, "checksum": "0"}',
    "gone": None,
}


def damage(file, how):
    file.unlink() if how is None else file.write_bytes(how(file.read_bytes()))


def files_of(folder, step):
    record = folder / f"{step:012}.json"
    return [record, *(folder / e["file"] for e in manifest(folder, step)["files"].values())]


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["record", "state", "best"])
def test_where_the_latest_is_damaged_the_one_before_is_taken(how, which, tmp_path):
    """Seen to fail on arrays without a checksum, and on a record without one."""
    written(tmp_path, [2, 3])  # two that share no file
    file = files_of(tmp_path, 3)[which]
    damage(file, DAMAGE[how])
    if how == "gone" and which == 0:
        assert check(tmp_path, 2) == 2  # nothing tells of it
        return
    with pytest.warns(DamagedCheckpoint, match=rf"^damaged-checkpoint: .*{file.name}.*step 2 inst"):
        assert check(tmp_path, 2) == 2
    assert file.is_file() == (how != "gone")  # reading changes nothing
    written(tmp_path, [3])
    assert check(tmp_path, 3) == 3  # mended, without a warning


def test_every_bit_of_a_record_is_checked(tmp_path):
    """A record with one bit flipped is read as it was written, or not at all."""
    written(tmp_path, [2, 3])
    file = tmp_path / "000000000003.json"
    whole = file.read_bytes()
    for byte in range(0, len(whole), 3):
        file.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1]) + whole[byte + 1 :])
        with pytest.warns(DamagedCheckpoint):
            assert check(tmp_path, 2) == 2


@pytest.mark.parametrize("how", DAMAGE)
def test_where_both_are_damaged_nothing_is_read(how, tmp_path):
    if how == "gone":
        pytest.skip("without records there is no checkpoint")
    written(tmp_path, [2, 3])
    one, other = files_of(tmp_path, 2)[0], files_of(tmp_path, 3)[1]
    for file in (one, other):
        damage(file, DAMAGE[how])
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read") as refused:
        Checkpoints(tmp_path).read(like())
    assert one.name in str(refused.value) and other.name in str(refused.value)


def test_one_damaged_file_leaves_a_checkpoint(tmp_path):
    """Also where the best model has not changed between the two."""
    written(tmp_path, [3, 4])
    damage(files_of(tmp_path, 4)[2], flip)
    with pytest.warns(DamagedCheckpoint):
        check(tmp_path, 3)


@pytest.mark.parametrize("which", [0, 1], ids=["record", "state"])
def test_two_whole_ones_are_kept_beside_a_damaged_one(which, tmp_path):
    """After a damaged latest the run is behind it, and passes it only later: until then a second
    damaged file must not be the end."""
    written(tmp_path, [2, 6])
    damage(files_of(tmp_path, 6)[which], flip)
    with pytest.warns(DamagedCheckpoint):
        check(tmp_path, 2)
    written(tmp_path, [3, 4])
    damage(files_of(tmp_path, 4)[which], flip)
    with pytest.warns(DamagedCheckpoint):
        check(tmp_path, 2, 3)


def test_a_file_of_another_step_is_no_file_of_this_one(tmp_path):
    """Exchanged whole files: each is sound, and its content is not what the record names."""
    written(tmp_path, [2, 3])
    one, other = files_of(tmp_path, 2)[1], files_of(tmp_path, 3)[1]
    other.write_bytes(one.read_bytes())
    with pytest.warns(DamagedCheckpoint, match=other.name):
        check(tmp_path, 2)


# Other versions, other models


def test_a_newer_format_is_refused_without_falling_back(tmp_path):
    """An older checkpoint would lose what the newer version did; seen to fail on falling back."""
    written(tmp_path, [2, 3])
    rewrite(tmp_path, 3, lambda record: record.update(format=2))
    before = names(tmp_path)
    with pytest.raises(ValueError, match=r"3.json has format 2; this version .*newer"):
        Checkpoints(tmp_path).read(like())
    assert names(tmp_path) == before


FORMS = {
    "format": lambda record: record.pop("format"),
    "files": lambda record: record.pop("files"),
    "record": lambda record: record.pop("record"),
    "state": lambda record: record["files"].pop("state"),
    "sha256": lambda record: record["files"]["state"].pop("sha256"),
    "file": lambda record: record["files"]["state"].update(file=5),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_record_of_another_form_is_a_damaged_one(form, tmp_path):
    """Its checksum is right, so that a program has written it so."""
    written(tmp_path, [2, 3])
    rewrite(tmp_path, 3, FORMS[form])
    with pytest.warns(DamagedCheckpoint, match=r"000000000003.json"):
        check(tmp_path, 2)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"a": jnp.zeros(4, jnp.float32)},
            r"at \['a'\] it has float32\[3\], this run float32\[4\]",
        ),
        (
            {"a": jnp.zeros((3, 1), jnp.float32)},
            r"at \['a'\] it has float32\[3\], this run float32\[3, 1\]",
        ),
        ({"a": jnp.zeros(3, jnp.int32)}, r"at \['a'\] it has float32\[3\], this run int32\[3\]"),
        ({"a": jnp.zeros(3, jnp.bfloat16)}, r"at \['a'\].*this run bfloat16\[3\]"),
        ({"a": ONES, "b": ONES}, r"at \['b'\] it has nothing, this run float32"),
        ({"b": ONES}, r"at \['a'\] it has float32\[3\], this run nothing"),
        ({}, r"at \['a'\] it has float32\[3\], this run nothing"),
        ({"a": jax.random.key(0)}, r"at \['a'\] it has float32\[3\], this run uint32\[2\]"),
    ],
)
def test_another_structure_is_refused_by_the_leaf(other, message, tmp_path):
    """And without falling back: the one before is of the same model."""
    for step in (1, 2):
        Checkpoints(tmp_path).write(step, {"state": {"a": ONES}}, {})
    with pytest.raises(ValueError, match=f"000000000002.json is of another model.*{message}"):
        Checkpoints(tmp_path).read({"state": other})


def test_a_record_names_no_file_outside_the_folder(tmp_path):
    """The name alone is taken, of a file in the folder."""
    folder = tmp_path / "checkpoints"
    written(folder, [2, 3])
    outside = tmp_path / "outside.safetensors"
    file = files_of(folder, 3)[1]
    shutil.move(file, outside)
    for name in ("../outside.safetensors", str(outside), "x/../../outside.safetensors"):
        rewrite(folder, 3, lambda record, name=name: record["files"]["state"].update(file=name))
        with pytest.warns(DamagedCheckpoint, match=r"checkpoints/outside.safetensors is missing"):
            check(folder, 2)
    written(folder, [4, 5])
    assert outside.is_file()  # nor is one removed


# Failures


def failing_at(monkeypatch, n):
    """Every call that writes, flushes, renames or removes is counted; the n-th raises."""
    calls = []
    for name in ("open", "fsync", "chmod", "replace", "unlink", "fdopen"):
        original = getattr(os, name)

        def counted(*args, name=name, original=original, **options):
            calls.append(name)
            if len(calls) == n:
                raise OSError(28, "No space left on device")
            return original(*args, **options)

        monkeypatch.setattr(os, name, counted)
    return calls


def test_a_failure_at_any_call_leaves_a_whole_checkpoint(tmp_path):
    """Of the one before or of the new one; and the next is written as if nothing had been.

    Seen to fail on older files that are removed first, and on a record renamed before its arrays.
    """
    n, seen = 0, set()
    while True:
        n += 1
        folder = tmp_path / str(n)
        written(folder, [1, 2])
        with pytest.MonkeyPatch.context() as monkeypatch:
            calls = failing_at(monkeypatch, n)
            try:
                Checkpoints(folder).write(3, tree(3), {"step": 3})
            except OSError as error:
                assert "No space left" in str(error)
        if len(calls) < n:
            break
        seen.add((calls[n - 1], check(folder, 2, 3)))
        written(folder, [4])
        assert check(folder, 4) == 4
        assert not list(folder.glob(".*"))
        damage(folder / "000000000004.json", flip)
        with pytest.warns(DamagedCheckpoint):
            check(folder, 2, 3)
    assert n > 15
    assert {("fsync", 2), ("replace", 2), ("open", 2), ("unlink", 3), ("fsync", 3)} <= seen


def test_a_failure_while_a_step_is_rewritten_keeps_one(tmp_path):
    """With another best model, as after an error between the last step of an epoch and its end;
    and without an older checkpoint to fall back on, as in the first epoch."""
    new = tree(2) | {"best": [jnp.full(2, 7)]}
    n = 0
    while True:
        n += 1
        folder = tmp_path / str(n)
        written(folder, [2])
        with pytest.MonkeyPatch.context() as monkeypatch:
            calls = failing_at(monkeypatch, n)
            with contextlib.suppress(OSError):
                Checkpoints(folder).write(2, new, {"step": 2})
        if len(calls) < n:
            break
        assert in_bits(Checkpoints(folder).read(like()).trees) in (in_bits(tree(2)), in_bits(new))
    assert n > 10


def test_a_kill_at_any_call_leaves_a_whole_checkpoint(tmp_path):
    """Copies of the folder at every call are what a kill would leave; all temporary files go."""
    folder, copies = tmp_path / "run", []
    written(folder, [1, 2])
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("fsync", "replace", "unlink"):
            original = getattr(os, name)

            def copying(*args, original=original, **options):
                copies.append(tmp_path / str(len(copies)))
                with monkeypatch.context() as plain:
                    plain.undo()
                    shutil.copytree(folder, copies[-1])
                return original(*args, **options)

            monkeypatch.setattr(os, name, copying)
        Checkpoints(folder).write(3, tree(3), {"step": 3})
    assert {check(killed, 2, 3) for killed in copies} == {2, 3}
    for killed in copies:
        written(killed, [4])
        assert check(killed, 4) == 4 and not list(killed.glob(".*"))
        assert len(list(killed.glob("*.json"))) == 2


def test_the_arrays_are_on_disk_before_the_record(tmp_path, monkeypatch):
    """The order of renames; each file's content is flushed before it and the folder after it."""
    renamed, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (renamed.append(b.name), replace(a, b)))
    written(tmp_path, [3])
    assert [name[:18] for name in renamed] == [
        "000000000003-state", "000000000003-best-", "000000000003.json"
    ]  # fmt: skip
