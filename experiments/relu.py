"""What a decoder's relu does to the gradient of training through a flow, and what
`hvax.models.SmoothedPotential` does about it.

    python -m experiments.relu --data-dir data     # a table for docs/flows.md; some minutes

Of UHA with K = 8 behind the plain VAE of `experiments.uha`, as it starts and as that left it, with
the force as it is (`experiments.uha --sizes 8 --force exact`) and smoothed; and of a flow through
softplus, which `experiments.flows` left. The derivative of the mean of log w in the log of the step
size is taken twice on the same validation images and the same noise: by autodiff, and as the rise
of that mean from 0.98 to 1.02 of the step size. They differ where log w has jumps.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import hvax
from experiments.common import BATCH, RESULTS, markdown, parts_of, write

RELU = RESULTS / "relu.json"
BATCHES, NEAR = 60, 0.02


def models() -> Iterator[tuple[str, hvax.HVAE]]:
    """Those that are there, with their names."""
    uha = RESULTS / "uha" / "checkpoints"
    for force, potential in (("relu", None), ("relu, smoothed", hvax.models.SmoothedPotential())):
        for start in sorted(uha.glob("vae-*/model")):
            name = f"{force}, VAE of {start.parent.name.split('-')[1]} epochs"
            yield (
                f"{name}, start",
                hvax.HVAE(hvax.load(start), hvax.HamiltonianFlow.uha(8), potential),
            )
        ended = "exact" if potential is None else "smoothed"
        for end in sorted(uha.glob(f"uha-8-0.0001-*-{ended}/model")):
            epochs = end.parent.name.split("-")[3]
            yield f"{force}, VAE of {epochs} epochs, trained", hvax.load(end)
    for end in sorted((RESULTS / "flows" / "mnist" / "checkpoints").glob("dais 8-0")):
        yield "softplus, DAIS 8 of the curves, trained", hvax.load(end)


def slopes(model: hvax.HVAE, x: np.ndarray) -> dict[str, Any]:
    """The ELBO, and its derivative in log(step size) by either way, with standard errors."""
    flow = model.flow

    def mean(factor: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
        scaled = hvax.Fixed(factor * flow.step_sizes)
        moved = eqx.tree_at(lambda model: model.flow.step_size, model, scaled)
        return hvax.hamiltonian_elbo(moved, x, key=key)

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


def table(rows: list[dict[str, Any]]) -> str:
    return markdown(
        ("decoder", "step size", "ELBO", "d ELBO / d log step size", "by autodiff"),
        [
            (
                row["name"],
                f"{row['step_size']:.2f}",
                f"{row['elbo']:.2f}",
                f"{row['rise']:.1f} ± {row['rise_se']:.1f}",
                f"{row['autodiff']:.1f} ± {row['autodiff_se']:.1f}",
            )
            for row in rows
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--table", action="store_true", help="the table of what was measured")
    options = parser.parse_args()
    if not options.table:
        x = parts_of("mnist", data_dir=options.data_dir).validation
        rows = [{"name": name} | slopes(model, x) for name, model in tqdm(list(models()))]
        write(RELU, rows)
    print(table(json.loads(RELU.read_text())))


if __name__ == "__main__":
    main()
