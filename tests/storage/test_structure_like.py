"""`load(folder, like=)`: every array at its own path, and no other structure without a word."""

import functools
import warnings
from collections import OrderedDict
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hvax.hamiltonian.flow import HamiltonianFlow
from hvax.hamiltonian.tempering import CustomTempering
from hvax.models.decoder import Decoder
from hvax.models.heads import JointGaussian
from hvax.models.likelihood import Categorical, FixedGaussian
from hvax.models.network import MLP, mlp
from hvax.models.vae import VAE
from hvax.parameters import Fixed, Learned
from hvax.storage.structure import load, save


class Own(eqx.Module):
    held: Any
    more: Any = None


class Still(eqx.Module):
    """An array that JAX does not see, between two that it does."""

    first: jax.Array
    constant: Any = eqx.field(static=True)
    last: jax.Array


def still(first, constant, last):
    """Equinox warns of it, and it works."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return Still(first, constant, last)


class Pair(NamedTuple):
    late: Any
    early: Any


class Other(NamedTuple):
    late: Any
    early: Any


class Trunk(eqx.Module):
    layers: Any

    def __init__(self, key, *, of=OrderedDict):
        enter, deep = jax.random.split(key)
        self.layers = of(enter=eqx.nn.Linear(4, 4, key=enter), deep=eqx.nn.Linear(4, 4, key=deep))

    def run(self, x):
        for layer in self.layers.values():
            x = jnp.tanh(layer(x.reshape(-1)))
        return x

    def __call__(self, x):
        return self.run(x)


def emptied(model):
    """A `like`: the same structure, other numbers."""
    return jax.tree.map(lambda leaf: 0 * leaf if eqx.is_inexact_array(leaf) else leaf, model)


def same(one, other):
    """Bit for bit, arrays that JAX does not see too."""
    if isinstance(one, eqx.Module):
        fields = vars(one)
        return type(one) is type(other) and all(same(fields[n], vars(other)[n]) for n in fields)
    if isinstance(one, jax.Array | np.ndarray):
        kinds = isinstance(one, jax.Array) == isinstance(other, jax.Array)
        one, other = (
            jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a
            for a in (one, other)
        )
        return kinds and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        keys = list(one) == list(other)
        return type(one) is type(other) and keys and all(same(one[k], other[k]) for k in one)
    if isinstance(one, functools.partial):
        parts = [(p.func, p.args, p.keywords) for p in (one, other)]
        return type(one) is type(other) and same(*parts)
    if isinstance(one, list | tuple):
        long = type(one) is type(other) and len(one) == len(other)
        return long and all(map(same, one, other))
    return type(one) is type(other) and one == other


def a(number, shape=(2,)):
    return jnp.full(shape, float(number))


MODELS = {
    "an ordered trunk": lambda: Trunk(jax.random.key(0)),
    "a dict's trunk": lambda: Trunk(jax.random.key(0), of=dict),
    "ordered against the alphabet": lambda: Own(OrderedDict(z=a(1), y=a(2), x=a(3))),
    "a static array": lambda: still(a(1), np.full(2, 5.0, np.float32), a(2)),
    "a static array of jax": lambda: Own(still(a(1), (np.arange(2), "x"), a(2)), a(3)),
    "64-bit constants": lambda: Own(np.arange(3), np.linspace(0, 1, 3)),
    "a namedtuple": lambda: Own(Pair(late=a(1), early=a(2)), a(3)),
    "keys that are numbers": lambda: Own({2: a(1), 1: a(2), 0.5: a(4), -1: a(5)}),
    "a partial": lambda: Own(functools.partial(jnp.clip, min=a(1), max=a(2)), a(3)),
    "a partial of jax": lambda: Own(jax.tree_util.Partial(jnp.clip, min=a(1), max=a(2)), a(3)),
    "a bound method": lambda: Own(Trunk(jax.random.key(0)).run, a(3)),
    "typed keys": lambda: Own(
        jax.random.split(jax.random.key(3), 2), [jax.random.key(4, impl="rbg"), a(1)]
    ),
    "mixed": lambda: Own({"b": [a(1), (a(2), None)], "a": a(3)}, OrderedDict(z=[a(4)], a=a(5))),
    "bits and complex numbers": lambda: Own(jnp.asarray([True, False]), jnp.asarray([1 + 2j])),
}


def in_32_bits(name):
    with jax.enable_x64(False):
        return MODELS[name]()


@pytest.mark.parametrize("name", MODELS)
def test_every_array_comes_back_in_its_place(name, tmp_path):
    """Into one like it, and into itself; seen to swap layers, and to shift arrays by one."""
    model = in_32_bits(name)
    save(model, tmp_path)
    for like in (emptied(model), model):
        back = load(tmp_path, like=like)
        assert same(back, model)
        if "static" not in name:
            assert jax.tree.structure(back) == jax.tree.structure(model)


def test_the_numbers_are_the_saved_ones_whatever_like_holds(tmp_path):
    """The constants that JAX does not see too, and the dtype."""
    model = still(a(1), np.zeros(2, np.float32), a(2).astype(jnp.bfloat16))
    save(model, tmp_path)
    back = load(tmp_path, like=still(a(3), np.ones(2, np.float32), a(4)))
    assert same(back, model)


def test_an_ordered_trunk_computes_what_it_did(tmp_path):
    """The issue's case: its two layers came back swapped."""

    def vae(seed):
        keys = jax.random.split(jax.random.key(seed), 4)
        heads = (MLP((4,), (2,), key=key) for key in keys[1:3])
        decoder = Decoder(MLP((2,), (4,), key=keys[3]), FixedGaussian(1.0))
        return VAE(JointGaussian(Trunk(keys[0]), *heads), decoder)

    model, x = vae(0), jnp.arange(4.0)
    save(model, tmp_path)
    back = load(tmp_path, like=vae(1))
    np.testing.assert_array_equal(back.encoder(x).mean, model.encoder(x).mean)


# Of another structure


def relu_of_mine(x):
    return jnp.maximum(x, 0)


def tanh_of_mine(x):
    return jnp.tanh(x)


def network(activation=jax.nn.tanh, out=2):
    return MLP((3,), (out,), (4,), key=jax.random.key(0), activation=activation)


OTHERS = {
    "upper": lambda: (
        Learned(0.2, upper=0.5),
        Learned(0.2, upper=5.0),
        "at upper the file has 0.5, .* 5.0",
    ),
    "activation": lambda: (
        network(),
        network(jax.nn.relu),
        "at activation the file has jax.nn.tanh, `like` has jax.nn.relu",
    ),
    "own activation": lambda: (
        network(tanh_of_mine),
        network(relu_of_mine),
        "tanh_of_mine, .*relu_of_m",
    ),
    "ours and own": lambda: (
        network(),
        network(tanh_of_mine),
        "jax.nn.tanh, `like` has .*tanh_of_mine",
    ),
    "number of steps": lambda: (
        HamiltonianFlow(2),
        HamiltonianFlow(3),
        "at num_steps the file has 2, .* 3",
    ),
    "gradient": lambda: (
        HamiltonianFlow(2),
        HamiltonianFlow(2, gradient="forward"),
        "at gradient the file has hvax.ReverseMode, `like` has hvax.ForwardMode",
    ),
    "an option": lambda: (
        HamiltonianFlow(2),
        HamiltonianFlow(2, remat=True),
        "at remat .* False, .* True",
    ),
    "an option that is not there": lambda: (
        HamiltonianFlow(2, max_force=None),
        HamiltonianFlow(2, max_force=3.0),
        "at max_force the file has None, `like` has 3.0",
    ),
    "classes": lambda: (
        Categorical(3),
        Categorical(4),
        "at num_classes the file has 3, `like` has 4",
    ),
    "fixed and learned": lambda: (
        Own(Fixed(0.2)),
        Own(Learned(0.2)),
        "at held .* hvax.Fixed, .*Learned",
    ),
    "a Python number": lambda: (
        Own({"k": [1.5]}),
        Own({"k": [2.5]}),
        r'at held\["k"\].0 .* 1.5, .* 2.5',
    ),
    "a number and a bool": lambda: (Own(1), Own(True), "at held the file has 1, `like` has True"),
    "a string": lambda: (Own("mean"), Own("sum"), "at held the file has mean, `like` has sum"),
    "a schedule": lambda: (
        CustomTempering(tanh_of_mine, 0.3),
        CustomTempering(relu_of_mine, 0.3),
        "at schedule",
    ),
    "a partial's argument": lambda: (
        Own(functools.partial(jax.nn.leaky_relu, negative_slope=0.1)),
        Own(functools.partial(jax.nn.leaky_relu, negative_slope=0.3)),
        r'at held.keywords\["negative_slope"\] the file has 0.1, `like` has 0.3',
    ),
    "the order": lambda: (
        Own(OrderedDict(a=a(1), b=a(2))),
        Own(OrderedDict(b=a(1), a=a(2))),
        'at held the file has the order "a", "b", `like` has the order "b", "a"',
    ),
    "a key of a dict": lambda: (
        Own({"a": a(1)}),
        Own({"b": a(1)}),
        r'at held\["a"\] .* more, .* nothing',
    ),
    "1 and '1'": lambda: (
        Own({1: a(1)}),
        Own({"1": a(1)}),
        r"at held\[1\] the file has more, .* nothing",
    ),
    "a longer list": lambda: (
        Own([a(1)]),
        Own([a(1), a(2)]),
        "at held.1 the file has nothing, .* more",
    ),
    "a tuple and a list": lambda: (
        Own((a(1),)),
        Own([a(1)]),
        "a tuple of 1, `like` has a list of 1",
    ),
    "a namedtuple": lambda: (Own(Pair(1, 2)), Own(Other(1, 2)), "Pair, `like` has .*Other"),
    "a namedtuple and a tuple": lambda: (
        Own(Pair(1, 2)),
        Own((1, 2)),
        "Pair, `like` has a tuple of 2",
    ),
    "dicts": lambda: (
        Own({"a": 1}),
        Own(OrderedDict(a=1)),
        "a dict of 1, `like` has a OrderedDict of 1",
    ),
    "a shape": lambda: (Own(a(1)), Own(a(1, (2, 1))), r"shape \(2,\), `like` has shape \(2, 1\)"),
    "a static shape": lambda: (
        still(a(1), np.zeros(2), a(1)),
        still(a(1), np.zeros(3), a(1)),
        r"at constant .* \(2,\)",
    ),
    "an array and a number": lambda: (
        Own(a(1, ())),
        Own(1.0),
        r"at held the file has shape \(\), .* 1.0",
    ),
    "a bias": lambda: (
        eqx.nn.Linear(2, 2, key=jax.random.key(0)),
        eqx.nn.Linear(2, 2, use_bias=False, key=jax.random.key(0)),
        r"at bias the file has shape \(2,\), `like` has None",
    ),
    "a PRNG key and its data": lambda: (
        Own(jax.random.key(0)),
        Own(jax.random.key_data(jax.random.key(0))),
        "a PRNG key of three",
    ),
    "two makes of keys": lambda: (
        Own(jax.random.key(0)),
        Own(jax.random.key(0, impl="rbg")),
        "threefry2x32, .* of rbg",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_structure_is_refused(name, tmp_path):
    """In both directions, with the path and what both have; seen to be taken without a word."""
    model, other, message = OTHERS[name]()
    save(model, tmp_path)
    assert load(tmp_path, like=model) is not None
    with pytest.raises(ValueError, match=f"`like` does not have the structure.*{message}"):
        load(tmp_path, like=other)
    save(other, tmp_path)
    with pytest.raises(ValueError, match=r"`like` does not have the structure"):
        load(tmp_path, like=model)


def test_a_class_or_function_may_move_to_another_file(tmp_path, monkeypatch):
    """What a program saved is of __main__ there, and of a module for the next program."""
    model = Own(network(tanh_of_mine), Pair(1, 2))
    for thing in (Own, tanh_of_mine, Pair):
        monkeypatch.setattr(thing, "__module__", "__main__")
    save(model, tmp_path)
    monkeypatch.undo()
    assert same(load(tmp_path, like=model), model)


def test_a_new_field_with_a_default_is_the_same_structure(tmp_path):
    def saved_before():
        class Grown(eqx.Module):
            held: jax.Array

        return Grown

    class Grown(eqx.Module):
        held: jax.Array
        factor: float = 2.0
        notes: dict = eqx.field(default_factory=dict)

    old = saved_before()
    old.__qualname__ = Grown.__qualname__
    save(old(a(1)), tmp_path)
    assert load(tmp_path, like=Grown(a(0))).factor == 2.0
    with pytest.raises(ValueError, match=r"at factor the file has 2.0, `like` has 3.0"):
        load(tmp_path, like=Grown(a(0), 3.0))


def test_like_must_be_a_model(tmp_path):
    save(Own(a(1)), tmp_path)
    with pytest.raises(TypeError, match="like"):
        load(tmp_path, like=Own)
    with pytest.raises(TypeError, match="model"):
        save([a(1)], tmp_path)


def test_a_whole_model_is_compared_through(tmp_path):
    """Whatever lies deep inside, a likelihood's number here."""

    def vae(sigma):
        likelihood = FixedGaussian(Learned(sigma, upper=2 * sigma))
        return VAE(*mlp((3,), 2, hidden=(4,), likelihood=likelihood, key=jax.random.key(0)))

    save(vae(0.5), tmp_path)
    with pytest.raises(ValueError, match=r"at decoder.likelihood.sigma.upper the file has 1.0"):
        load(tmp_path, like=vae(0.7))
