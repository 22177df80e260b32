"""What a decoder's relu does to the gradient of training through a flow, and `hvax.Smoothed`.

    python -m experiments.relu --data-dir data     # a table for docs/flows.md; ten minutes

Plain VAEs of one hidden layer of 450 units and 64 latent dimensions on MNIST, with relu and with
softplus; and behind each UHA with K = 8, as it starts and after some epochs of training together.
The derivative of the mean of log w in the log of the step size is taken twice on the same
validation images and the same noise: by autodiff, and as the rise of that mean from 0.98 to 1.02 of
the step size. They differ where log w has jumps.
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
SETTINGS = {  # activation, and what the flow follows
    "relu": ("relu", None),
    "relu, smoothed": ("relu", hvax.Smoothed()),
    "softplus": ("softplus", None),
}
BATCHES, NEAR = 60, 0.02


def fit(model: Any, parts: Parts, epochs: int, rate: float) -> Any:
    optimiser = hvax.faster_flow(hvax.clip_outliers(optax.adam(rate)))
    return hvax.fit(
        model,
        parts.train,
        epochs=epochs,
        batch_size=BATCH,
        transform=binary,
        optimiser=optimiser,
    ).model


def slopes(model: hvax.HVAE, x: np.ndarray) -> dict[str, Any]:
    """The ELBO, and its derivative in log(step size) by either way, with standard errors."""
    flow = model.flow

    def mean(factor: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
        scaled = hvax.HamiltonianFlow.uha(
            flow.num_steps, step_size=factor * flow.step_sizes, bridge=flow.bridge, eta=flow.eta
        )
        return hvax.hamiltonian_elbo(hvax.HVAE(model.vae, scaled, model.potential), x, key=key)

    value, both = jax.jit(mean), jax.jit(jax.value_and_grad(mean))
    rows = []
    for number, batch in enumerate(np.split(x[: BATCHES * BATCH], BATCHES)):
        batch = jnp.asarray(batch)
        up, down = (
            value(1 + sign * NEAR, batch, jax.random.key(number))  # the same noise
            for sign in (1, -1)
        )
        rows.append((*both(1.0, batch, jax.random.key(number)), (up - down) / (2 * NEAR)))
    values = np.array(rows, np.float64)
    elbo, autodiff, rise = values.mean(0)
    _, autodiff_se, rise_se = values.std(0, ddof=1) / BATCHES**0.5
    return {
        "step_size": float(flow.step_sizes),
        "elbo": elbo,
        "autodiff": autodiff,
        "autodiff_se": autodiff_se,
        "rise": rise,
        "rise_se": rise_se,
    }


def measure(data_dir: str, epochs: int, flow_epochs: int) -> list[dict[str, Any]]:
    parts, rows = parts_of("mnist", data_dir=data_dir), []
    vaes = {}
    for activation, function in ACTIVATIONS.items():
        sizes = {"hidden": (450,), "activation": function}
        encoder, decoder = hvax.mlp(parts.train.x_shape, 64, **sizes, key=jax.random.key(0))
        vaes[activation] = fit(hvax.VAE(encoder, decoder), parts, epochs, 1e-3)
    for name, (activation, potential) in tqdm(SETTINGS.items(), unit="setting"):
        model = hvax.HVAE(vaes[activation], hvax.HamiltonianFlow.uha(8), potential)
        for trained in (0, flow_epochs):
            model = fit(model, parts, trained, 1e-4) if trained else model
            told = {"setting": name, "epochs": trained}
            rows.append(told | slopes(model, parts.validation))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| decoder | epochs of the flow | step size | ELBO | d ELBO / d log step size | "
        "by autodiff |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['setting']} | {row['epochs']} | {row['step_size']:.2f} | {row['elbo']:.2f} | "
            f"{row['rise']:.1f} ± {row['rise_se']:.1f} | "
            f"{row['autodiff']:.1f} ± {row['autodiff_se']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--epochs", type=int, default=20, help="of the plain VAEs")
    parser.add_argument("--flow-epochs", type=int, default=10)
    parser.add_argument("--table", action="store_true", help="the table of what was measured")
    options = parser.parse_args()
    if not options.table:
        write(RELU, measure(options.data_dir, options.epochs, options.flow_epochs))
    print(table(json.loads(RELU.read_text())))


if __name__ == "__main__":
    main()
