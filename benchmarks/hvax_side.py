"""hvax's side of step.py: a process that holds a model and does training steps when asked.

python hvax_side.py time mlp:loop --steps 3 --batch 128
python hvax_side.py compare mlp FILE --steps 3 --batch 4   # with torch_hvae.py's export
"""

import argparse
import json
import math
import resource
import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from nets import NETS, bits, build, from_torch

import hvax
from hvax.batch import Batch
from hvax.data.batches import epoch_batches
from hvax.data.examples import Examples
from hvax.training.compiled_steps import CompiledSteps
from hvax.training.feed import ResidentFeed
from hvax.training.state import default_loss


def worker(case: str, options: Any) -> None:
    name, run = case.split(":")
    base = peak_memory()
    clock = Loop(name, options) if run == "loop" else StepByStep(name, options)
    memory = peak_memory() - base
    if options.device == "cuda":
        memory = jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
    say({"memory_mb": memory, "compile_s": clock.seconds_compiling, "jax": jax.__version__})
    for line in sys.stdin:
        ms = clock(int(line))
        say({"ms": ms, "floor_ms": floor(name, options)})


class Loop:
    """The compiled loop that `hvax.fit` runs."""

    def __init__(self, name: str, options: Any):
        model = build(name, options.steps, remat=options.remat)
        data = Batch(Examples(bits(name, 10_000)))
        self._batches = epoch_batches(len(data.x), options.batch, seed=0, epoch=1)
        self._feed = ResidentFeed(data)
        self._steps = CompiledSteps(
            default_loss(model), {}, None, data.map(lambda part: part.scale)
        )
        state = hvax.train_state(model, optax.adam(1e-3), key=jax.random.key(1))
        chunk, _ = self._feed.chunk(self._batches, 0, 1)
        self._progress = self._steps.start(chunk, state)
        self._run(0, 3)

    @property
    def seconds_compiling(self) -> float:
        return self._steps.seconds_compiling

    def __call__(self, count: int) -> float:
        began, left = time.perf_counter(), count
        while left:
            some = min(left, len(self._batches))
            self._run(0, some)
            left -= some
        return 1e3 * (time.perf_counter() - began) / count

    def _run(self, start: int, stop: int) -> None:
        chunk, _ = self._feed.chunk(self._batches, start, stop)
        self._progress = self._steps(chunk, self._progress)
        jax.block_until_ready(self._progress.state.step)


class StepByStep:
    """`hvax.train_step`, called from Python for each step."""

    def __init__(self, name: str, options: Any):
        model = build(name, options.steps, remat=options.remat)
        self._state = hvax.train_state(model, optax.adam(1e-3), key=jax.random.key(1))
        self._data = jnp.asarray(bits(name, 10_000)[: options.batch])
        began = time.perf_counter()
        self(1)
        self.seconds_compiling = time.perf_counter() - began
        self(3)

    def __call__(self, count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            self._state, _ = hvax.train_step(self._state, self._data)
        jax.block_until_ready(self._state.step)
        return 1e3 * (time.perf_counter() - began) / count


def floor(name: str, options: Any) -> float:
    """Milliseconds of the step's matrix products alone, at the speed they reach in its batch.

    One evaluation of the decoder's gradient is a product forwards and one back for each layer;
    training differentiates both, two products each: six in all, K + 1 times. A plain VAE takes
    three of each layer, and every encoder two of its first. Convolutions count by their own
    multiplications, without the zeros of a band; the padding is counted as if it were image.
    """
    net, K = NETS[name], options.steps
    features = math.prod(net.x_shape)
    if name == "conv":
        maps = 25 * (4 * 4 * 32 * 32 + 7 * 7 * 32 * 16 + 14 * 14 * 16)
        decoder = maps + 64 * 450 + 450 * 512
        first, encoder = 25 * 14 * 14 * 16, maps + 512 * 450 + 450 * 128
        speed = flops_per_ms(options.batch, 450, 512)
    else:
        decoder = net.hidden * (net.latent + features)
        first, encoder = net.hidden * features, net.hidden * (features + 2 * net.latent)
        speed = flops_per_ms(options.batch, net.hidden, features)
    products = 3 * encoder - first + (6 * (K + 1) if K else 3) * decoder
    return 2 * options.batch * products / speed


def flops_per_ms(batch: int, n_in: int, n_out: int) -> float:
    """Of the three products of a dense layer: forwards, back to its inputs, and to its weights."""
    h, weight = jnp.ones((batch, n_in)), jnp.zeros((n_out, n_in))
    flops, times = 6 * batch * n_in * n_out, []
    rounds = max(1, int(5e9 / flops))
    for _ in range(4):
        began = time.perf_counter()
        jax.block_until_ready(_layer(h, weight, rounds))
        times.append(time.perf_counter() - began)
    return rounds * flops / (1e3 * min(times[1:]))


@jax.jit
def _layer(h: Any, weight: Any, rounds: int) -> Any:
    def products(_: Any, carry: Any) -> Any:
        h, _ = carry
        y = h @ weight.T
        return y @ weight, y.T @ h

    return jax.lax.fori_loop(0, rounds, products, (h, weight))


def compare(name: str, options: Any) -> None:
    """Relative differences of hvax's loss and gradients from the peer's, in float64."""
    arrays = dict(np.load(options.file))
    model, net = from_torch(name, options.steps, arrays), NETS[name]
    x = jnp.asarray(arrays["x"]).reshape(-1, *net.x_shape)

    def loss(model: Any, x: Any, noise: Any, gamma: Any) -> Any:
        posterior = model.vae.posterior(x)
        z = posterior.mean + posterior.sigma * noise
        moved = model.flow.transport(model.vae.potential(x), z=z, gamma=gamma)
        joint = moved.aux
        log_weight = joint.log_likelihood + joint.log_prior + moved.log_ratio
        log_weight -= posterior.log_prob(z)
        # The peer has the mean of the noise's own log-densities in their place.
        own = 0.5 * (noise @ noise + gamma @ gamma) - net.latent
        return -(log_weight - own)

    def total(learned: Any, held: Any) -> Any:
        model = eqx.combine(learned, held)
        each = jax.vmap(loss, in_axes=(None, 0, 0, 0))
        return jnp.mean(each(model, x, arrays["noise"], arrays["gamma"]))

    learned, held = eqx.partition(model, hvax.trainable(model))
    value, ours = jax.jit(jax.value_and_grad(total))(learned, held)
    names = [key for key in arrays if key.startswith("gradient.")]
    peer = {key.removeprefix("gradient."): arrays[key] for key in names}
    pairs = gradient_pairs(name, ours, peer, learned)
    say(
        {"loss": float(abs(value / arrays["loss"] - 1))}
        | {what: float(np.linalg.norm(a - b) / np.linalg.norm(b)) for what, (a, b) in pairs.items()}
    )


def gradient_pairs(name: str, ours: Any, peer: dict[str, np.ndarray], at: Any) -> dict[str, Any]:
    """hvax's gradients and the peer's of the same numbers."""
    decoder, encoder = ours.vae.decoder.network, ours.vae.encoder
    sigma = encoder.log_sigma.network.layers[0]
    pairs = {
        "encoder": (np.concatenate([encoder.mean.layers[0].weight, sigma.weight]),
                    peer["net.e2.weight"]),
    }  # fmt: skip
    if name == "conv":
        flipped = np.asarray(decoder.convolutions[1].weight)[::-1, ::-1].transpose(2, 3, 0, 1)
        # Of the taps that both have; see torch_hvae.py.
        pairs["decoder"] = (flipped[:, :, :4, :4], peer["net.t2.weight"][:, :, 1:, 1:])
    else:
        pairs["decoder"] = (np.asarray(decoder.layers[1].weight), peer["net.d2.weight"])

    # The two learn step size and beta0 through maps of their own: compare in the number itself.
    def slope(raw: np.ndarray, floor: float) -> np.ndarray:
        s = 1 / (1 + np.exp(-raw))
        return (1 - floor) * s * (1 - s)

    flow, start = ours.flow, at.flow
    for what, mine, theirs, raw in (
        ("step size", flow.step_size.raw, peer["eps_raw"], start.step_size.raw),
        ("beta0", flow.tempering.beta0.raw, peer["beta_raw"], start.tempering.beta0.raw),
    ):
        mine, raw = np.asarray(mine), np.asarray(raw)
        value = 1e-4 + (1 - 1e-4) / (1 + np.exp(-raw))
        pairs[what] = (mine / slope(raw, 1e-4), theirs / (value * (1 - value)))
    return pairs


def peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(record: dict[str, Any]) -> None:
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["time", "compare"])
    parser.add_argument("case")
    parser.add_argument("file", nargs="?")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--remat", action="store_true")
    given = parser.parse_args()
    if given.what == "time":
        worker(given.case, given)
    else:
        jax.config.update("jax_enable_x64", True)
        compare(given.case, given)
