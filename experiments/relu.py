"""What a decoder's relu does to the gradient of training through a flow, and `hvax.Smoothed`.

    python -m experiments.relu --data-dir data     # a table for docs/flows.md; five minutes

Plain VAEs of one hidden layer of 450 units and 64 latent dimensions on MNIST, with relu and with
softplus, and behind each UHA with K = 8 as it starts. The derivative of the mean of log w in the
log of the step size is taken twice on the same validation images and the same noise: by autodiff,
and as the rise of that mean from 0.98 to 1.02 of the step size. They differ where log w has jumps.
"""

import argparse
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import hvax
from experiments.common import BATCH, RESULTS, Parts, binary, parts_of, write

RELU = RESULTS / "relu.json"
ACTIVATIONS = {"relu": jax.nn.relu, "softplus": hvax.softplus}
FORCES = {
    "relu": {"as it is": None} | {f"smoothed, s = {s:g}": hvax.Smoothed(s) for s in (3, 10, 30)},
    "softplus": {"as it is": None},
}
STEP_SIZES, BATCHES, NEAR = (0.4, 0.6, 0.8), 60, 0.02


def trained(activation: str, parts: Parts, epochs: int) -> hvax.VAE:
    encoder, decoder = hvax.mlp(
        parts.train.x_shape,
        64,
        hidden=(450,),
        activation=ACTIVATIONS[activation],
        key=jax.random.key(0),
    )
    vae = hvax.VAE(encoder, decoder)
    return hvax.fit(
        vae,
        parts.train,
        epochs=epochs,
        batch_size=BATCH,
        transform=binary,
        optimiser=optax.adam(1e-3),
    ).model


def slopes(vae: hvax.VAE, potential: Any, step_size: float, x: np.ndarray) -> dict[str, Any]:
    """The ELBO, and its derivative in log(step size) by either way, with standard errors."""

    def mean(factor: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
        flow = hvax.HamiltonianFlow.uha(8, step_size=factor * step_size)
        return hvax.hamiltonian_elbo(hvax.HVAE(vae, flow, potential), x, key=key)

    value, both = jax.jit(mean), jax.jit(jax.value_and_grad(mean))
    rows = []
    for number, batch in enumerate(np.split(x[: BATCHES * BATCH], BATCHES)):
        batch, key = jnp.asarray(batch), jax.random.key(number)
        up, down = (value(1 + sign * NEAR, batch, key) for sign in (1, -1))
        rows.append((*both(1.0, batch, key), (up - down) / (2 * NEAR)))
    values = np.array(rows, np.float64)
    elbo, autodiff, rise = values.mean(0)
    _, autodiff_se, rise_se = values.std(0, ddof=1) / BATCHES**0.5
    return {
        "elbo": elbo,
        "autodiff": autodiff,
        "autodiff_se": autodiff_se,
        "rise": rise,
        "rise_se": rise_se,
    }


def measure(data_dir: str, epochs: int) -> list[dict[str, Any]]:
    parts, rows = parts_of("mnist", data_dir=data_dir), []
    for activation, forces in FORCES.items():
        vae = trained(activation, parts, epochs)
        for force, potential in tqdm(forces.items(), desc=activation, unit="force"):
            for step_size in STEP_SIZES:
                told = {"activation": activation, "force": force, "step_size": step_size}
                rows.append(told | slopes(vae, potential, step_size, parts.validation))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| decoder | force | step size | ELBO | d ELBO / d log step size | by autodiff |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['activation']} | {row['force']} | {row['step_size']:g} | {row['elbo']:.2f} | "
            f"{row['rise']:.1f} ± {row['rise_se']:.1f} | "
            f"{row['autodiff']:.1f} ± {row['autodiff_se']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--epochs", type=int, default=20, help="of the plain VAEs")
    parser.add_argument("--table", action="store_true", help="the table of what was measured")
    options = parser.parse_args()
    if not options.table:
        write(RELU, measure(options.data_dir, options.epochs))
    print(table(json.loads(RELU.read_text())))


if __name__ == "__main__":
    main()
