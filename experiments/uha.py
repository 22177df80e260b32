"""The setting of Geffner and Domke, "MCMC Variational Inference via Uncorrected Hamiltonian
Annealing" (2021), on MNIST, shortened.

    python -m experiments.uha --data-dir data     # resumable; prints the table
    python -m experiments.uha --table

One hidden layer of 450 ReLU, 64 latent dimensions, 50,000 / 10,000 / 10,000 images, stochastically
binarized. A plain VAE is trained first (here --vae-epochs, Adam from 1e-3 to 1e-4 by a cosine); UHA
with K transitions, and the importance weighted bound of K samples, go on from it with Adam at 1e-4
(theirs for 100 epochs, here --epochs; --rate starts it higher and comes down to 1e-4 by a cosine),
and ten times that for the numbers of the flow. Test bounds
are those of all 10,000 images, NLLs of 1,000; annealed importance sampling, with the encoder as its
start, checks them on --ais of these.

The decoder's relu makes the force on the flow jump, and the gradient of training biased; so the
flow follows a smoothed decoder, which leaves the bound a bound on the likelihood of this one
(`hvax.models.SmoothedPotential`; --force exact for the force as it is).
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import hvax
from experiments.common import BATCH, RESULTS, binary, markdown, parts_of, write

PUBLISHED = {  # test bounds after 100 epochs
    "uha": {1: -93.4, 8: -89.8, 16: -88.8, 32: -88.1, 64: -87.6},
    "iw": {1: -93.4, 8: -90.5, 16: -89.9, 32: -89.4, 64: -89.0},
}

FORCES = {"smoothed": hvax.models.SmoothedPotential(), "exact": None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--vae-epochs", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-4, help="of Adam, at first")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 8], help="K")
    parser.add_argument("--kinds", nargs="+", choices=tuple(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument(
        "--force",
        choices=tuple(FORCES),
        default="smoothed",
        help="what the flow follows: the decoder with softplus(10 a) / 10 for relu, or as it is",
    )
    parser.add_argument("--ais", type=int, default=50, help="test images for AIS")
    parser.add_argument("--table", action="store_true", help="the table of what was run")
    options = parser.parse_args()
    folder = RESULTS / "uha"
    if not options.table:
        _run(options, folder)
    records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    print(
        table(
            sorted(records, key=lambda r: (r["vae_epochs"], r["kind"] != "vae", r["kind"], r["K"]))
        )
    )


def _run(options: argparse.Namespace, folder: Path) -> None:
    train, _, test = parts_of("mnist", data_dir=options.data_dir)
    fit = partial(
        hvax.fit, data=train, batch_size=BATCH, transform=binary, resume=True, save_seconds=60
    )

    encoder, decoder = hvax.mlp(
        train.x_shape, 64, hidden=(450,), activation=jax.nn.relu, key=jax.random.key(0)
    )
    steps = options.vae_epochs * (len(train) // BATCH)
    rate = optax.cosine_decay_schedule(1e-3, steps, alpha=0.1)
    vae = fit(
        hvax.VAE(encoder, decoder),
        epochs=options.vae_epochs,
        optimizer=optax.adam(rate),
        run_dir=folder / "checkpoints" / f"vae-{options.vae_epochs}",
    ).model
    if not (path := folder / f"vae-{options.vae_epochs}.json").exists():
        told = {"kind": "vae", "K": 0, "epochs": 0, "rate": 1e-3}
        _write(path, told, options, _scores(vae, test, 1, options.ais))
    for K in options.sizes:
        for kind in options.kinds:
            name = f"{kind}-{K}-{options.rate:g}-{options.vae_epochs}"
            if kind == "uha":
                name += f"-{options.force}"
            if (path := folder / f"{name}.json").exists():
                continue
            flow, potential = hvax.HamiltonianFlow.uha(K), FORCES[options.force]
            model = vae if kind == "iw" else hvax.HVAE(vae, flow, potential)
            fitted = fit(
                model,
                epochs=options.epochs,
                optimizer=hvax.training.scale_flow_updates(
                    hvax.training.clip_by_running_norm(optax.adam(_rate(options, len(train))))
                ),
                train_samples=K if kind == "iw" else 1,
                seed=1,
                run_dir=folder / "checkpoints" / name,
            )
            scores: dict[str, Any] = _scores(
                fitted.model, test, K if kind == "iw" else 1, options.ais
            )
            if isinstance(fitted.model, hvax.HVAE):
                flow = fitted.model.flow
                assert flow.bridge is not None and flow.eta is not None
                scores["step_size"] = float(flow.step_sizes)
                scores["bridge"] = np.asarray(flow.bridge.weights(K)).tolist()
                scores["eta"] = float(flow.eta.value)
            told = {"kind": kind, "K": K, "epochs": options.epochs, "rate": options.rate}
            if kind == "uha":
                told["force"] = options.force
            _write(path, told, options, scores)


def _rate(options: argparse.Namespace, examples: int) -> optax.Schedule:
    steps = options.epochs * (examples // BATCH)
    return optax.cosine_decay_schedule(options.rate, steps, alpha=1e-4 / options.rate)


def _scores(model: Any, test: np.ndarray, size: int, ais: int) -> dict[str, float]:
    """The bound of `size` samples on all of the test images, the NLL of 1,000 of them, and of some
    of these by AIS and by importance sampling again."""
    key = jax.random.key(0)

    @jax.jit
    def bound(x: jax.Array, key: jax.Array) -> jax.Array:
        return hvax.importance_weighted_bound(model, x, key=key, num_samples=size)

    batches = np.split(test, len(test) // BATCH)
    keys = jax.random.split(key, len(batches))
    bounds = [float(jnp.mean(bound(x, key))) for x, key in zip(batches, keys, strict=True)]
    thousand = hvax.evaluate(model, test[::10], key=key, num_samples=200, progress=False)
    step = 1000 // ais
    annealed = hvax.annealed_importance_sampling(
        model,
        test[::10][::step],
        key=key,
        start="posterior",
        num_temperatures=500,
        progress=False,
    )
    return {
        "bound": float(np.mean(bounds)),
        "nll": thousand.nll,
        "nll_mc_se": thousand.nll_mc_se,
        "images_of_ais": len(annealed.lower),
        "nll_by_ais": float(-annealed.lower.mean()),
        "nll_there": float(-thousand.per_point.log_p[::step].mean()),
        "acceptance_of_ais": annealed.acceptance,
    }


def _write(
    path: Path, told: dict[str, Any], options: argparse.Namespace, scores: dict[str, Any]
) -> None:
    record = {**told, "vae_epochs": options.vae_epochs, "hvax": hvax.__version__, **scores}
    write(path, record)
    print(record, flush=True)


def table(records: list[dict[str, Any]]) -> str:
    head = ["", "K", "epochs of VAE, then of it", "first rate", "test bound", "published"]
    head += ["NLL (S = 200)", "of some", "of these by AIS"]
    rows = []
    for record in records:
        kind, K = record["kind"], record["K"]
        published = PUBLISHED.get(kind, {}).get(K, "–")
        if record.get("force") == "smoothed":
            kind = f"{kind}, smoothed"
        epochs = f"{record['vae_epochs']}, {record['epochs']}"
        scores = [f"{record[key]:.2f}" for key in ("nll", "nll_there", "nll_by_ais")]
        bound = f"{record['bound']:.2f}"
        rows.append((kind, K or "–", epochs, f"{record['rate']:g}", bound, published, *scores))
    return markdown(head, rows)


if __name__ == "__main__":
    main()
