"""Files whose checksums are right and whose content cannot be: a message that names the file."""

import hashlib
import json
import os
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.models.convolution import Convolution
from hvax.models.heads import SigmaHead
from hvax.models.network import MLP, mlp
from hvax.models.vae import VAE
from hvax.parameters import Fixed, Learned
from hvax.storage.json_files import verify_checksum, with_checksum
from hvax.storage.structure import STRUCTURE, load, save


@pytest.fixture
def saved(tmp_path):
    """Saves a model, and rewrites the file as `edit` would have it, under a right checksum."""

    def saved(model, edit):
        save(model, tmp_path)
        path = tmp_path / STRUCTURE
        manifest = verify_checksum(path.read_bytes())
        edit(manifest)
        path.write_bytes(with_checksum(manifest))
        return tmp_path

    return saved


def refused(folder, message="", like=None):
    """Both ways of loading name the file, and nothing but a `ValueError` comes out."""
    for one in (None, like) if like is not None else (None,):
        with pytest.raises(ValueError, match=rf"{re.escape(str(folder))}.*{message}"):
            load(folder, like=one)


# structure.json


def put(path, value):
    """An edit: the value in the place of what is at a path of the model's tree."""

    def edit(manifest):
        node = manifest["model"]
        *way, last = path
        for step in way:
            node = node[step]
        if value is REMOVED:
            del node[last]
        else:
            node[last] = value

    return edit


REMOVED = object()


def deep(times):
    node = {"value": 1}
    for _ in range(times):
        node = {"tuple": [node]}
    return node


NODES = [
    None, True, 5, 1.5, "text", [], {}, [1], {"value": {}}, {"value": [1]}, {"array": 5},
    {"array": None}, {"array": ["held"]}, {"array": {}}, {"array": "nowhere"}, {"numpy": "nowhere"},
    {"key": "held"}, {"key": "held", "implementation": "of no such kind"},
    {"key": "held", "implementation": 5}, {"key": "held", "implementation": "threefry2x32"},
    {"tuple": 5}, {"tuple": "held"}, {"tuple": {"0": 1}}, {"tuple": [5]}, {"list": None},
    {"dict": []}, {"dict": 5}, {"dict": {"no JSON": {"value": 1}}}, {"dict": {"[1]": {"value": 1}}},
    {"dict": {"{": {"value": 1}}}, {"OrderedDict": [1]}, {"namedtuple": "a", "fields": {}},
    {"namedtuple": "a"}, {"module": "hvax.Fixed"}, {"module": None, "fields": {}},
    {"module": {}, "fields": {}}, {"module": "hvax.Fixed", "fields": 5},
    {"module": "hvax.Fixed", "fields": []}, {"module": "hvax.Fixed", "fields": {"held": 5}},
    {"module": "hvax.Fixed", "fields": {"held": {"array": "held"}}, "more": 1},
    {"module": "", "fields": {}}, {"module": "x" * 10**5, "fields": {}}, {"function": 5},
    {"function": None}, {"function": []}, {"function": "no such"}, {"code": "x"}, {"": 1},
    {"x" * 10**5: 1}, {"partial": "functools.partial", "fields": {}}, {"partial": "os.system"},
    {"partial": "os.system", "fields": {}},
    {"partial": "functools.partial", "fields": {
        "func": {"value": 1}, "args": {"tuple": []}, "keywords": {"dict": {}}}},
    {"partial": "functools.partial", "fields": {
        "func": {"function": "jax.nn.relu"}, "args": {"value": 1}, "keywords": {"dict": {}}}},
    {"partial": "functools.partial", "fields": {
        "func": {"function": "jax.nn.relu"}, "args": {"tuple": []}, "keywords": {"dict": {
            "1": {"value": 1}}}}},
    {"module": "equinox.nn.StateIndex", "fields": {}}, {"module": "hvax.VAE", "fields": {}},
    deep(300),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(NODES)))
@pytest.mark.parametrize("place", [("model",), ("model", "fields", "held")], ids=["top", "field"])
def test_a_node_that_cannot_be_is_refused(case, place, saved):
    """Seen to end in KeyError, RecursionError, or in a model that fails where it is used."""

    def edit(manifest):
        if place == ("model",):
            manifest["model"] = NODES[case]
        else:
            manifest["model"]["fields"]["held"] = NODES[case]

    refused(saved(Fixed(0.5), edit), like=Fixed(0.5))


@pytest.mark.parametrize("depth", [100, 300, 900, 1000, 3000, 10**5])
@pytest.mark.parametrize(("start", "end"), [('{"tuple": [', "]}"), ("[", "]"), ('{"a": ', "}")])
def test_what_is_nested_too_deeply_is_refused(depth, start, end, tmp_path):
    """At some depths JSON is read, and its checksum cannot be computed. Seen: RecursionError."""
    save(Fixed(0.5), tmp_path)
    node = f"{start * depth}1{end * depth}"
    (tmp_path / STRUCTURE).write_text(f'{{"format": 1, "model": {node}, "checksum": "x"}}')
    refused(tmp_path, "is damaged", like=Fixed(0.5))


def vae():
    return VAE(*mlp((3,), 2, hidden=(4,), key=jax.random.key(0)))


def flow():
    return HamiltonianFlow(2)


def learned():
    return Learned(0.2)


def convolution():
    return Convolution((4, 4, 2), (2, 2, 1), key=jax.random.key(0))


F = "fields"
HEAD = (F, "encoder", F, "log_sigma", F)
NETWORK = (F, "decoder", F, "network", F)
FIELDS = [
    *((flow, (F, "num_steps", "value"), wrong, "num_steps must be int, got|integer of 401")
      for wrong in (-1, 10**400, 2**63, "2", 2.0, True, None)),
    (flow, (F, "leapfrog_steps", "value"), -1, "leapfrog_steps must be int"),
    (flow, (F, "remat", "value"), 1, "remat must be bool, got 1"),
    (flow, (F, "units", "value"), "furlongs", "units must be one of latent"),
    (flow, (F, "gradient"), {"value": "reverse"}, "gradient must be Abstract"),
    (flow, (F, "step_size"), {"value": None}, "step_size must be"),
    (flow, (F, "tempering"), {"module": "hvax.ReverseMode", F: {}}, "tempering must be"),
    *((learned, (F, "upper", "value"), wrong, "upper must be float, got|integer of 401")
      for wrong in ("1", None, False, float("inf"), float("nan"), 10**400)),
    (learned, (F, "raw"), {"value": 1.0}, "raw must be .*Float.*, got 1.0"),
    *((vae, (*NETWORK, "in_shape"), {"tuple": [{"value": n} for n in wrong]}, "in_shape|network")
      for wrong in ([-2], [10**12], [10**9, 10**9], [3], [], [2, 2], ["2"], [2.0])),
    (vae, (*NETWORK, "in_shape"), {"list": [{"value": 2}]}, "in_shape must be"),
    (vae, (*NETWORK, "activation"), {"value": "relu"}, "activation must be"),
    (vae, (*NETWORK, "layers"), {"tuple": []}, "a network from"),
    (vae, (*NETWORK, "layers", "tuple", 0, F, "weight", "array"),
     "decoder.network.layers.1.weight", "must have weights for it"),
    (vae, (*NETWORK, "layers", "tuple", 0, F, "weight"), {"value": None}, "weight must be"),
    (vae, (F, "prior"), {"module": "hvax.ReverseMode", F: {}}, "prior must be AbstractPrior"),
    (vae, (F, "decoder"), {"value": 5}, "decoder must be Decoder, got 5"),
    (vae, (F, "encoder"), {"value": 5}, "encoder must be"),
    (vae, (*HEAD, "form", "value"), "exp", "form must be"),
    (vae, (*HEAD, "lower", "value"), 100.0, "lower and upper must be finite"),
    (convolution,
     (F, "in_shape", "tuple", 2, "value"), 10**6, "a convolution of 1000000 to 1 channels"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(FIELDS)))
def test_a_field_that_cannot_be_is_refused(case, saved):
    """Seen to be loaded, and to fail without a message where the model is used."""
    build, path, value, message = FIELDS[case]
    model = build()
    folder = saved(model, put(path, value))
    refused(folder, message)
    with pytest.raises(ValueError, match=re.escape(str(folder))):
        load(folder, like=model)


def test_what_annotations_do_not_say_is_loaded(tmp_path):
    """A stack of models, other dtypes, numbers of NumPy: they work, so they are no damage."""
    one = MLP((3,), (2,), (4,), key=jax.random.key(0))
    stack = jax.tree.map(lambda leaf: np.stack([leaf] * 5), one)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), one)
    head = SigmaHead(one, lower=-3.0, upper=4.0)
    for model in (stack, half, head):
        save(model, tmp_path)
        assert eqx.tree_equal(load(tmp_path), model)


def test_a_structure_larger_than_any_is_not_read(tmp_path):
    save(Fixed(0.5), tmp_path)
    os.truncate(tmp_path / STRUCTURE, 2**36)
    with pytest.raises(ValueError, match=r"structure.json is damaged: it has 68719476736 bytes"):
        load(tmp_path)


@pytest.mark.parametrize("version", [True, 1.0, "1", None, [1], {}])
def test_a_format_that_is_no_number_is_damage(version, saved):
    refused(saved(Fixed(0.5), lambda manifest: manifest.update(format=version)), "is damaged")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "x\0y", "structure.json", "\ud800", "weights-xyz.safetensors", "a" * 999],
)
def test_a_weights_file_of_another_name_is_not_read(name, saved):
    refused(saved(Fixed(0.5), lambda manifest: manifest.update(weights=name)), "is damaged")


# The weights


@pytest.mark.parametrize(
    "narrow",
    [
        {"held": "float7"}, {"held": 5}, {"held": None}, {"held": "float32"}, {"held": "uint32"},
        {"held": "bfloat16"}, {"held": "float8_e5m2"}, {"held": "object"}, {"held": "O"},
        {"held": "f4,f4"}, {"held": ["bfloat16"]}, {"held": {}}, {"nowhere": "bfloat16"},
        {"held": "x" * 10**5},
    ],
)  # fmt: skip
def test_a_narrow_dtype_that_cannot_be_is_refused(narrow, saved):
    """Seen to end in TypeError and KeyError, or in arrays of another shape."""
    folder = saved(Fixed(0.5), lambda manifest: manifest.update(narrow=narrow))
    refused(folder, "is damaged", like=Fixed(0.5))


def with_weights(folder, header, data=b"", size=None):
    """Replaces the weights by a file of this header, which structure.json names and vouches for."""
    (old,) = folder.glob("weights-*")
    old.unlink()
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + data
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder / f"weights-{sha256[:16]}.safetensors"
    path.write_bytes(content)
    if size is not None:
        os.truncate(path, len(content) + size)
    manifest = verify_checksum((folder / STRUCTURE).read_bytes())
    manifest |= {"weights": path.name, "sha256": sha256}
    (folder / STRUCTURE).write_bytes(with_checksum(manifest))
    return path


def entry(dtype="F32", shape=(), offsets=(0, 4)):
    return {"held": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (entry("BF16", (2,)), bytes(4)),
        (entry("F8_E4M3", (4,)), bytes(4)),
        (entry("F8_E8M0", (4,)), bytes(4)),
        (entry("F4", (8,)), bytes(4)),
        (entry("X", ()), bytes(4)),
        (entry(shape=(-1,)), bytes(4)),
        (entry(shape=(2**62,)), bytes(4)),
        (entry(shape=(0, 2**63 - 1), offsets=(0, 0)), b""),
        (entry(shape=(0, 10**400), offsets=(0, 0)), b""),
        (entry(shape=(2**62, 4)), bytes(4)),
        (entry(shape=(1,) * 200), bytes(4)),  # more axes than NumPy has
        (entry(offsets=(0, 10**15)), bytes(4)),
        (entry(offsets=(4, 0)), bytes(4)),
        (entry(), bytes(3)),
        (entry(), bytes(5)),
        ({}, b""),
        ({"held": 5}, b""),
        (b"[" * 10**5, b""),
        (b"null", b""),
        (b"", b""),
    ],
)
def test_weights_that_cannot_be_are_refused(header, data, tmp_path):
    """The checksum is right. Seen to end in KeyError, TypeError, safetensors' own errors."""
    save(Fixed(0.5), tmp_path)
    with_weights(tmp_path, header, data)
    refused(tmp_path, like=Fixed(0.5))


def test_a_weights_file_that_has_grown_is_not_read(tmp_path):
    """50 GB of nothing: its header claims other sizes. Seen to end in MemoryError."""
    save(Fixed(0.5), tmp_path)
    (path,) = tmp_path.glob("weights-*")
    os.truncate(path, 50 * 10**9)
    refused(tmp_path, "is damaged", like=Fixed(0.5))


def test_weights_larger_than_the_memory_are_told(tmp_path):
    """4 TiB of nothing that the header claims; the checksum is not even asked for."""
    save(Fixed(0.5), tmp_path)
    size = 2**42
    path = with_weights(tmp_path, entry(shape=(size // 4,), offsets=(0, size)), size=size)
    assert path.stat().st_size > size
    refused(tmp_path, r"is too large for the memory: 4096\.0 GiB", like=Fixed(0.5))


def test_a_device_is_no_weights_file(tmp_path):
    save(Fixed(0.5), tmp_path)
    (path,) = tmp_path.glob("weights-*")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(FileNotFoundError, match=r"the weights file .* is missing"):
        load(tmp_path)
