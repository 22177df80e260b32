"""Saved models come back bit for bit; damaged and foreign files are refused, and run no code."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.gradient import FiniteDifference
from hvax.hamiltonian.tempering import (
    CustomTempering,
    FreeTempering,
    NullTempering,
    QuadraticTempering,
    TemperatureTempering,
    null_tempering,
    quadratic_tempering,
)
from hvax.models.convolution import Convolution
from hvax.models.decoder import Decoder
from hvax.models.gaussian import DiagonalGaussian
from hvax.models.heads import JointGaussian, SigmaHead, SplitGaussian
from hvax.models.hvae import HVAE
from hvax.models.likelihood import (
    Categorical,
    FixedGaussian,
    LearnedGaussian,
    NegativeBinomial,
    Poisson,
)
from hvax.models.network import MLP, mlp
from hvax.models.prior import AbstractPrior
from hvax.models.standardize import standardized
from hvax.models.vae import VAE
from hvax.parameters import Fixed, Learned
from hvax.storage.json_files import verify_checksum, with_checksum
from hvax.storage.structure import FORMAT, MODULES, STRUCTURE, load, save

NOT_OURS = r"the saved model holds .*load\(folder, like=model\)"


def vae(likelihood=None, **options):
    key = jax.random.key(0)
    return VAE(*mlp((2, 3), 2, hidden=(4,), likelihood=likelihood, key=key, **options))


def split_vae():
    keys = jax.random.split(jax.random.key(0), 3)
    mean, sigma, decoder = (MLP((4,), (4,), key=key, activation=jax.nn.tanh) for key in keys)
    head = SigmaHead(sigma, form="softplus", lower=-3.5, upper=4.0)
    return VAE(SplitGaussian(mean, head), Decoder(decoder, FixedGaussian(Learned(np.full(4, 0.5)))))


def equinox_vae():
    """Equinox's own layers and functions, lists of them, and what stands for no bias."""
    keys = jax.random.split(jax.random.key(0), 4)
    trunk = eqx.nn.Sequential(
        [
            eqx.nn.Linear(4, 3, key=keys[0]),
            eqx.nn.Lambda(jnp.tanh),
            eqx.nn.LayerNorm(3),
            eqx.nn.Dropout(0.1, inference=True),
        ]
    )
    heads = [eqx.nn.Linear(3, 2, use_bias=False, key=key) for key in keys[1:3]]
    return VAE(JointGaussian(trunk, *heads), Decoder(eqx.nn.Linear(2, 4, key=keys[3]), Poisson()))


def with_moments():
    encoder, decoder = mlp(
        (3,), 2, hidden=(4, 5), likelihood=LearnedGaussian(), key=jax.random.key(0)
    )
    return VAE(*standardized(encoder, decoder, shift=np.arange(3.0), scale=np.full(3, 2.0)))


def flow(tempering=None, step_size=0.1, num_steps=2, gradient="reverse"):
    return HamiltonianFlow(num_steps, step_size, tempering, gradient)


MODELS = {
    "bernoulli": vae,
    "fixed gaussian": lambda: vae(FixedGaussian(0.3)),
    "learned gaussian": lambda: vae(LearnedGaussian()),
    "categorical": lambda: vae(Categorical(3)),
    "poisson": lambda: vae(Poisson()),
    "negative binomial": lambda: vae(NegativeBinomial()),
    "activation": lambda: vae(activation=jax.nn.silu),
    "split": split_vae,
    "equinox": equinox_vae,
    "convolution": lambda: Convolution((4, 4, 2), (2, 2, 1), key=jax.random.key(0)),
    "standardized": with_moments,
    "posterior": lambda: DiagonalGaussian(jnp.zeros(3), jnp.ones(3)),
    "hvae": lambda: HVAE(split_vae(), flow()),
    "quadratic": lambda: flow(QuadraticTempering(Learned(0.4))),
    "null": lambda: flow(NullTempering(0.7), Learned(np.full((2, 1), 0.2), upper=0.5)),
    "temperature": lambda: flow(TemperatureTempering(Fixed(0.5)), gradient="forward"),
    "free": lambda: flow(FreeTempering(2), Learned(np.full((2, 3), 0.2)), gradient="taylor"),
    "free, no steps": lambda: flow(
        FreeTempering(0), num_steps=0, gradient=FiniteDifference("forward")
    ),
    "custom of ours": lambda: flow(CustomTempering(quadratic_tempering, Learned(0.5))),
}


def arrays(model):
    """The arrays of a model by their bytes."""
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    return [(leaf.shape, leaf.dtype, np.asarray(leaf).tobytes()) for leaf in leaves]


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_bit_for_bit(name, wide, tmp_path):
    """The tree's structure with all that is static, functions by identity; float32 and float64."""
    with jax.enable_x64(wide):
        model = MODELS[name]()
        save(model, tmp_path / "new" / "model")
        back = load(tmp_path / "new" / "model")
        assert arrays(back) == arrays(model)
        held, expected = (eqx.filter(m, eqx.is_array, inverse=True) for m in (back, model))
        assert jax.tree.structure(back) == jax.tree.structure(model) and held == expected
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(eqx.filter(back, eqx.is_array))}
        assert dtypes == {np.dtype(np.float64 if wide else np.float32)}


def test_extreme_numbers_come_back(tmp_path):
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, np.finfo(np.float32).max], np.float32)
    model = DiagonalGaussian(jnp.asarray(values), jnp.asarray(values[::-1]))
    save(model, tmp_path)
    assert arrays(load(tmp_path)) == arrays(model)


def test_every_module_of_ours_can_be_named():
    """What is public in the library and a module: its name is in the table."""
    import hvax

    names = [*vars(hvax).values(), *vars(hvax.hamiltonian).values(), *vars(hvax.models).values()]
    public = [v for v in names if isinstance(v, type) and issubclass(v, eqx.Module)]
    ours = [kind for kind in public if not kind.__name__.startswith("Abstract")]
    missing = {kind.__name__ for kind in ours} - {kind.__name__ for kind in MODULES.values()}
    assert missing == set()


# A user's own


class Own(eqx.Module):
    inner: object
    more: dict = eqx.field(default_factory=dict)


class OwnPrior(AbstractPrior):
    """Defined here, so of no name that a file may hold."""

    scale: jax.Array

    def log_prob(self, z):
        return -jnp.sum(jnp.abs(z / self.scale))

    def sample(self, latent_size, *, key):
        return jnp.zeros(latent_size)


def test_a_users_own_module_is_loaded_into_one_like_it(tmp_path):
    def own(seed, scale):
        inner = VAE(*mlp((3,), 2, hidden=(4,), key=jax.random.key(seed)))
        prior = OwnPrior(jnp.asarray(scale))
        return VAE(inner.encoder, inner.decoder, prior)

    model = own(0, 1.5)
    save(model, tmp_path)
    with pytest.raises(ValueError, match=r"OwnPrior.*load\(folder, like="):
        load(tmp_path)
    back = load(tmp_path, like=own(1, 2.0))
    assert arrays(back) == arrays(model)
    assert jax.tree.structure(back) == jax.tree.structure(model)


def test_functions_and_containers_of_the_users_own(tmp_path):
    def schedule(beta0, k, num_steps):
        return beta0

    model = Own(
        flow(CustomTempering(schedule, 0.3)),
        {"z": [jnp.ones(2), (jnp.zeros(1), None)], "a": jnp.full(3, 7), "n": 3, "s": "text"},
    )
    save(model, tmp_path)
    like = jax.tree.map(lambda leaf: 0 * leaf if eqx.is_array(leaf) else leaf, model)
    back = load(tmp_path, like=like)
    assert eqx.tree_equal(back, model)
    with pytest.raises(ValueError, match="like="):
        load(tmp_path)


def test_like_is_taken_for_a_model_of_ours_too(tmp_path):
    save(vae(), tmp_path)
    other = VAE(*mlp((2, 3), 2, hidden=(4,), key=jax.random.key(1)))
    assert arrays(load(tmp_path, like=other)) == arrays(vae())


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            lambda: VAE(*mlp((2, 3), 2, hidden=(5,), key=jax.random.key(0))),
            r"at encoder.trunk.layers.0.weight the file has shape \(4, 6\), `like` has .* \(5, 6\)",
        ),
        (lambda: HVAE(vae(), flow()), "at its top the file has hvax.VAE, `like` has hvax.HVAE"),
        (lambda: vae(LearnedGaussian()), "at decoder.network"),
        (
            lambda: VAE(vae().encoder, vae().decoder, OwnPrior(jnp.ones(2))),
            "at prior the file has hvax.StandardNormal, `like` has .*OwnPrior",
        ),
    ],
)
def test_like_of_another_structure_is_refused(like, message, tmp_path):
    save(vae(), tmp_path)
    with pytest.raises(ValueError, match=f"`like` does not have the structure.*{message}"):
        load(tmp_path, like=like())


@pytest.mark.parametrize("thing", [{1, 2}, 1j, np.float32(1), b"bytes"])
def test_what_cannot_be_saved_is_refused_and_nothing_is_written(thing, tmp_path):
    with pytest.raises(
        TypeError, match=rf"cannot save a {type(thing).__name__}, at more\[.x.\]\.0 of"
    ):
        save(Own(None, {"x": [thing]}), tmp_path)
    with pytest.raises(TypeError, match=r"strings or numbers for keys .* a tuple, at more\.$"):
        save(Own(None, {(1, 2): 3}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_order_in_memory_does_not_matter(tmp_path):
    model = Own(np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)))
    save(model, tmp_path)
    np.testing.assert_array_equal(load(tmp_path, like=model).inner, model.inner)


def test_what_is_saved_can_be_loaded(tmp_path):
    model = DiagonalGaussian(jnp.ones(2, jnp.bfloat16), jnp.zeros(2, jnp.bfloat16))
    save(model, tmp_path)
    assert arrays(load(tmp_path)) == arrays(model)


def test_keys_with_dots(tmp_path):
    model = Own(None, {"a.b": jnp.ones(2), "a": {"b": jnp.zeros(2)}})
    save(model, tmp_path)
    assert eqx.tree_equal(load(tmp_path, like=model), model)


# The files


def names(folder: Path):
    return sorted(path.name for path in folder.iterdir())


def weights_file(folder: Path) -> Path:
    (path,) = folder.glob("weights-*.safetensors")
    return path


def test_a_folder_holds_json_and_safetensors(tmp_path):
    save(vae(), tmp_path)
    weights = weights_file(tmp_path)
    assert names(tmp_path) == [STRUCTURE, weights.name]
    manifest = json.loads((tmp_path / STRUCTURE).read_text())
    assert manifest["format"] == FORMAT.version and manifest["weights"] == weights.name
    assert manifest["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    stored = safetensors.numpy.load_file(weights)
    np.testing.assert_array_equal(
        stored["decoder.network.layers.0.bias"], vae().decoder.network.layers[0].bias
    )


def test_saving_over_a_model_replaces_it(tmp_path):
    save(vae(), tmp_path)
    first = weights_file(tmp_path).name
    (tmp_path / "notes.txt").write_text("the user's")
    save(split_vae(), tmp_path)
    assert weights_file(tmp_path).name != first
    assert arrays(load(tmp_path)) == arrays(split_vae())
    save(split_vae(), tmp_path)  # the same again
    assert names(tmp_path) == ["notes.txt", STRUCTURE, weights_file(tmp_path).name]
    assert arrays(load(tmp_path)) == arrays(split_vae())


def test_a_save_that_fails_half_way_leaves_the_old_model(tmp_path, monkeypatch):
    save(vae(), tmp_path)
    replace, calls = os.replace, []

    def fail_at_the_second(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise OSError("disk full")
        replace(*paths)

    monkeypatch.setattr(os, "replace", fail_at_the_second)
    with pytest.raises(OSError, match="disk full"):
        save(split_vae(), tmp_path)
    monkeypatch.undo()
    assert arrays(load(tmp_path)) == arrays(vae())
    save(split_vae(), tmp_path)
    assert arrays(load(tmp_path)) == arrays(split_vae()) and len(names(tmp_path)) == 2


def test_a_model_loads_in_a_fresh_process(tmp_path):
    """From another folder's working directory, without pickle and with nothing but hvax imported.

    There, a float64 model is refused until 64-bit numbers are switched on.
    """
    with jax.enable_x64(False):
        model = HVAE(split_vae(), flow())
        save(model, tmp_path / "narrow")
        x, key = jnp.asarray([0.1, 0.2, 0.3, 0.4]), jax.random.key(3)
        expected = float(jax.jit(lambda x, key: model.log_weight(x, key=key))(x, key))
    with jax.enable_x64(True):
        save(split_vae(), tmp_path / "wide")
    program = """
import sys, jax
import hvax
for module in ("pickle", "_pickle"):
    if module in sys.modules:
        sys.modules[module].load = sys.modules[module].loads = sys.modules[module].Unpickler = None
model = hvax.load("narrow")
x = jax.numpy.asarray([0.1, 0.2, 0.3, 0.4])
print(float(jax.jit(lambda x, key: model.log_weight(x, key=key))(x, jax.random.key(3))))
try:
    hvax.load("wide")
except ValueError as error:
    print(error)
jax.config.update("jax_enable_x64", True)
print(hvax.load("wide").decoder.network.layers[0].bias.dtype)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "JAX_ENABLE_X64": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    number, refusal, dtype = done.stdout.splitlines()
    assert float(number) == pytest.approx(expected, rel=1e-6)
    assert "holds 64-bit arrays" in refusal and "jax_enable_x64" in refusal
    assert dtype == "float64"


@pytest.fixture
def saved(tmp_path):
    """A folder with a model, and a function that rewrites entries of its manifest."""
    save(Fixed(0.5), tmp_path)

    def edit(**changes):
        path = tmp_path / STRUCTURE
        manifest = verify_checksum(path.read_bytes()) | changes
        path.write_bytes(with_checksum({k: v for k, v in manifest.items() if v is not None}))
        return tmp_path

    return edit


def node(name, **fields):
    return {"module": name, "fields": fields}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2; this version of hvax reads format 1. Install a newer hvax"),
        ({"format": None}, "is damaged"),
        ({"weights": None}, "is damaged"),
        ({"sha256": None}, "is damaged"),
        ({"weights": 5}, "is damaged"),
        ({"weights": "../weights.safetensors"}, "outside the folder"),
        ({"weights": "/etc/hostname"}, "outside the folder"),
        ({"weights": "deeper/weights.safetensors"}, "outside the folder"),
        ({"sha256": "0" * 64}, "its checksum is not the one that was written"),
        ({"model": node("subprocess.Popen", args={"value": "x"})}, NOT_OURS),
        ({"model": node("os.system")}, NOT_OURS),
        ({"model": node("hvax.storage.structure.load")}, NOT_OURS),
        ({"model": node("hvax.Lambda")}, NOT_OURS),
        ({"model": {"function": "builtins.exec"}}, NOT_OURS),
        ({"model": {"function": "jax.nn.softplus.__globals__"}}, NOT_OURS),
        ({"model": node("hvax.Fixed")}, "does not describe a model.*has the fields"),
        ({"model": node("hvax.Fixed", held={"value": 1}, more={"value": 1})}, "has the fields"),
        ({"model": node("hvax.AbstractParameter")}, "does not describe a model"),
        ({"model": {"module": "hvax.Fixed"}}, "does not describe a model"),
        ({"model": {"module": ["hvax.Fixed"], "fields": {}}}, "does not describe a model"),
        ({"model": {"array": "nowhere"}}, "does not describe a model.*nowhere"),
        ({"model": {"code": "print()"}}, "unknown kind of node code"),
        ({"model": [1]}, "'model' must be of type dict"),
        ({"model": {"array": "held", "value": 1}}, r"a node of \['array', 'value'\]"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_wrong_is_refused(changes, message, saved):
    with pytest.raises(ValueError, match=message):
        load(saved(**changes))


def test_a_field_of_a_later_version_takes_its_default(tmp_path):
    save(HamiltonianFlow(2, remat=True), tmp_path)
    manifest = verify_checksum((tmp_path / STRUCTURE).read_bytes())
    del manifest["model"]["fields"]["remat"]
    (tmp_path / STRUCTURE).write_bytes(with_checksum(manifest))
    flow = load(tmp_path)
    assert (flow.num_steps, flow.remat) == (2, False)


@pytest.mark.parametrize("changes", [{"model": None}, {"sha256": 5}])
def test_a_damaged_manifest_is_not_taken_for_a_newer_one(changes, saved):
    with pytest.raises(ValueError, match="is damaged"):
        load(saved(**changes))


def test_a_name_in_a_file_is_never_imported(saved, tmp_path, monkeypatch):
    """A module that would write a file when imported, on the path, by its full name."""
    (tmp_path / "evil.py").write_text("open('ran', 'w')\nclass Evil: pass\ndef run(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for model in (
        node("evil.Evil"),
        {"function": "evil.run"},
        node("hvax.Fixed", held=node("evil")),
    ):
        with pytest.raises(ValueError, match=NOT_OURS):
            load(saved(model=model))
    assert "evil" not in sys.modules and not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1, 2]", b"null", b'"text"', b"\xff\xfe\x00{", b'{"format": 1}', b"[" * 10**5],
)
def test_a_structure_that_is_no_manifest_is_refused(content, saved, tmp_path):
    (tmp_path / STRUCTURE).write_bytes(content)
    with pytest.raises(ValueError, match=r"structure\.json is damaged"):
        load(tmp_path)


def test_weights_with_one_bit_changed_or_cut_off_are_refused(tmp_path):
    save(vae(), tmp_path)
    path = weights_file(tmp_path)
    content = path.read_bytes()
    places = [0, 8, 100, len(content) // 2, len(content) - 1]
    damaged = [content[:p] + bytes([content[p] ^ 1]) + content[p + 1 :] for p in places]
    for wrong in (*damaged, content[:-1], content[:5], b"", content + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="is damaged: "):
            load(tmp_path)
        with pytest.raises(ValueError, match="is damaged: "):
            load(tmp_path, like=vae())


def test_weights_that_are_no_safetensors_are_refused(saved, tmp_path):
    content = b"not at all"
    weights_file(tmp_path).write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        load(saved(sha256=hashlib.sha256(content).hexdigest()))


def test_missing_files_are_told(saved, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no model in .*nowhere: structure\.json is missing"
    ):
        load(tmp_path / "nowhere")
    weights_file(tmp_path).unlink()
    with pytest.raises(FileNotFoundError, match=r"the weights file .* is missing"):
        load(tmp_path)


def test_our_schedules_are_known_by_name(tmp_path):
    save(CustomTempering(null_tempering, 0.3), tmp_path)
    assert load(tmp_path).schedule is null_tempering
