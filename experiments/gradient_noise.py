"""The gradient's signal-to-noise ratio against the number of draws S, standard and dreg
reparameterized.

    python -m experiments.gradient_noise --data-dir data     # a table for docs/flows.md

On one batch of 100 MNIST images the gradient of the loss is drawn again and again. Its ratio is
|E g| / sqrt(tr cov g), over all weights of the encoder (of the flow, of the decoder). Rainforth et
al., "Tighter Variational Bounds are Not Necessarily Better" (2018): the encoder's ratio falls as
1 / sqrt(S) with the standard gradient, and rises as sqrt(S) with the doubly reparameterized one.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import hvax
from experiments.common import RESULTS, markdown, write
from experiments.flows import World

DRAWS = (1, 5, 20)
FLOWS: dict[str, Callable[[], hvax.HamiltonianFlow] | None] = {
    "vae": None,
    "dais 4": partial(hvax.HamiltonianFlow.dais, 4),
}


def signal_to_noise(
    model: hvax.VAE | hvax.HVAE, x: np.ndarray, repetitions: int, **options: Any
) -> dict[str, float]:
    """|E g| / sqrt(tr cov g) of the encoder, the decoder and the flow."""

    @eqx.filter_jit
    def add(sums: Any, model: Any, key: jax.Array) -> Any:
        gradient = eqx.filter_grad(lambda model: hvax.loss(model, x, key=key, **options))(model)
        gradient = eqx.filter(gradient, eqx.is_inexact_array)
        first, second = sums
        return (
            jax.tree.map(jnp.add, first, gradient),
            jax.tree.map(lambda total, g: total + g**2, second, gradient),
        )

    zeros = jax.tree.map(jnp.zeros_like, eqx.filter(model, eqx.is_inexact_array))
    sums = (zeros, zeros)
    for key in jax.random.split(jax.random.key(0), repetitions):
        sums = add(sums, model, key)
    means, squares = (jax.tree.map(lambda total: total / repetitions, each) for each in sums)

    def ratio(part: Callable[[Any], Any]) -> float:
        mean, square = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(part(each))]).astype(float)
            for each in (means, squares)
        )
        noise = np.sum(square - mean**2) * repetitions / (repetitions - 1)
        signal = max(0.0, np.sum(mean**2) - noise / repetitions)  # free of what the noise adds
        return float(np.sqrt(signal / noise))

    found = {
        "encoder": ratio(lambda g: getattr(g, "vae", g).encoder),
        "decoder": ratio(lambda g: getattr(g, "vae", g).decoder),
    }
    return found | ({"flow": ratio(lambda g: g.flow)} if isinstance(model, hvax.HVAE) else {})


def measure(data_dir: str, repetitions: int) -> list[dict[str, Any]]:
    world = World("mnist", data_dir)
    x = world.test[:100]
    rows = []
    for epochs in (1, 15):
        vae = world.fit(world.start(0), epochs).model
        for name, flow in tqdm(FLOWS.items(), desc=f"{epochs} epochs", unit="model"):
            model = vae if flow is None else hvax.HVAE(vae, flow())
            if flow is not None:  # settled in its own numbers
                model = world.fit(model, 1, seed=1).model
            for draws in DRAWS:
                for estimator in ("standard", "dreg"):
                    options = {"num_samples": draws, "estimator": estimator}
                    if flow is None:
                        options["kl"] = "sampled"
                    found = signal_to_noise(model, x, repetitions, **options)
                    rows.append({"epochs": epochs, "model": name, **options, **found})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    head = ["model", "epochs of VAE", "S"]
    head += ["encoder: standard", "dreg", "flow: standard", "dreg"]
    lines = []
    by = {(row["model"], row["epochs"], row["num_samples"], row["estimator"]): row for row in rows}
    for model, epochs, draws in dict.fromkeys(key[:3] for key in by):
        standard, dreg = (by[model, epochs, draws, each] for each in ("standard", "dreg"))
        cells = [f"{each['encoder']:.3f}" for each in (standard, dreg)]
        cells += [f"{each['flow']:.3f}" if "flow" in each else "–" for each in (standard, dreg)]
        lines.append((model, epochs, draws, *cells))
    return markdown(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--draw", action="store_true", help="the table of what was measured")
    options = parser.parse_args()
    path = RESULTS / "flows" / "gradient_noise.json"
    if not options.draw:
        rows = measure(options.data_dir, options.repetitions)
        write(path, rows)
    print(table(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
