"""MNIST as in Caterini, Doucet and Sejdinovic (2018), section 4.2, and a recipe of today.

    python -m experiments.mnist --data-dir data --flow hvae --num-steps 10 --tempering free \\
        --step-size per-layer --seed 0                      # the paper's best single run, in full
    python -m experiments.mnist --data-dir data --recipe hvax --flow dais --epochs 200
    python -m experiments.mnist --table                     # all runs there are, and the paper's

`--recipe paper`: batches of 100, their Adamax at 5e-4, at most 2,000 epochs, an end after 100
without a better validation ELBO. `--recipe hvax`: Adam to 1e-3 in a warm-up and down by a cosine
(`--schedule constant`: neither), outliers clipped, steps ten times as long for the flow's own
numbers, an HVAE's step sizes in the encoder's standard deviations. Either with the paper's
convolutional nets or dense ones, `--plain-epochs` as a plain VAE first, the last weights or their
running mean (`--average`); 50,000 / 10,000 / 10,000 images by seed, training images binarized
afresh at each step.

A run that was stopped goes on. Its end is results/mnist/HASH-SEED.json, with the hash of all
options that it is a function of, the seed apart; test images are scored once, at the end.
"""

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import hvax
from experiments.common import (
    BATCH,
    RESULTS,
    Parts,
    binary,
    markdown,
    over,
    parts_of,
    spaced,
    write,
)
from hvax.data import Examples

MNIST = RESULTS / "mnist"
PUBLISHED = {  # test NLL, by (K, step size, tempering); of the plain VAE 83.20
    (1, "shared"): (None, 83.32, 83.17),
    (5, "shared"): (83.09, 83.26, 83.68),
    (10, "shared"): (82.97, 83.26, 83.40),
    (15, "shared"): (82.78, 83.56, 83.82),
    (20, "shared"): (82.93, 83.18, 83.33),
    (5, "per-layer"): (83.01, 82.94, 83.35),
    (10, "per-layer"): (82.62, 82.87, 83.25),
    (15, "per-layer"): (82.62, 83.09, 82.94),
    (20, "per-layer"): (82.83, 82.85, 82.93),
}
TEMPERINGS = ("free", "fixed", "none")


@dataclasses.dataclass(frozen=True)
class Config:
    """What the weights at the end of a run are a function of, with its seed."""

    network: str = "conv"
    flow: str = "hvae"
    num_steps: int = 10
    tempering: str = "free"
    step_size: str = "per-layer"
    recipe: str = "paper"
    epochs: int = 2000
    plain_epochs: int = 0
    train_samples: int = 1
    batch_size: int = BATCH
    schedule: str = "cosine"
    average: float = 0.0

    @property
    def told(self) -> dict[str, Any]:
        """The options that matter to this flow; those of `_VARIANTS` only where they vary."""
        idle = {"none": ("num_steps", "tempering", "step_size", "plain_epochs"), "hvae": ()}
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in idle.get(self.flow, ("tempering", "step_size"))
            and value != _VARIANTS.get(name)
        }

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.told, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """For a person."""
        if self.flow == "none":
            kind = "VAE" if self.train_samples == 1 else f"IWAE {self.train_samples}"
        elif self.flow == "hvae":
            kind = f"HVAE {self.num_steps}, {self.tempering}, {self.step_size}"
        else:
            kind = f"{self.flow.upper()} {self.num_steps}"
        varied = (
            f"{name.replace('_', ' ')} {self.told[name]}" for name in _VARIANTS if name in self.told
        )
        return ", ".join([kind, *varied])

    @property
    def phases(self) -> str:
        """The epochs, as a plain VAE and then."""
        return f"{self.plain_epochs} + {self.epochs}" if self.plain_epochs else f"{self.epochs}"


_VARIANTS = {"batch_size": BATCH, "schedule": "cosine", "average": 0.0}


# The models


def start(config: Config, train: Examples, *, key: jax.Array) -> hvax.VAE:
    """The plain VAE before any training."""
    if config.network == "conv":
        return hvax.VAE(*hvax.conv(64, output_bias=_mean_logit(train), key=key))
    return hvax.VAE(*hvax.mlp(train.x_shape, 20, hidden=(400,), key=key))


def _mean_logit(train: Examples) -> float:
    """The mean over images of logit(mean intensity)."""
    mean = train[:].mean((1, 2), dtype=np.float64)
    return float(np.mean(np.log(mean) - np.log1p(-mean)))


def flow_of(config: Config, d: int) -> hvax.HamiltonianFlow:
    K = config.num_steps
    if config.flow != "hvae":
        return hvax.HamiltonianFlow.preset(config.flow, K)
    shape = (K, d) if config.step_size == "per-layer" else (d,)
    temperings: dict[str, Any] = {
        "free": lambda: hvax.hamiltonian.FreeTempering(K, hvax.Learned(0.9)),
        "fixed": lambda: hvax.hamiltonian.TemperatureTempering(hvax.Learned(1 / 1.5)),
        "none": lambda: hvax.hamiltonian.NullTempering(1.0),
    }
    paper = config.recipe == "paper"
    return hvax.HamiltonianFlow.hvae(
        K,
        step_size=hvax.Learned(np.full(shape, 0.2 if paper else 0.4), upper=0.5 if paper else 1.5),
        tempering=temperings[config.tempering](),
        units="latent" if paper else "posterior",
    )


# Their training and ours


class _Averages(NamedTuple):
    mean: Any
    largest: Any


def their_adamax(rate: float) -> optax.GradientTransformation:
    """Adamax as their code has it: without bias correction, epsilon inside the maximum.

    m <- 0.9 m + 0.1 g,  u <- max(0.999 u + 1e-7, |g|),  step = -rate m / u.
    """

    def init(params: Any) -> _Averages:
        return _Averages(*(jax.tree.map(jnp.zeros_like, params) for _ in range(2)))

    def update(gradient: Any, state: _Averages, params: Any = None) -> tuple[Any, _Averages]:
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.mean, gradient)
        largest = jax.tree.map(
            lambda u, g: jnp.maximum(0.999 * u + 1e-7, jnp.abs(g)), state.largest, gradient
        )
        return jax.tree.map(lambda m, u: -rate * m / u, mean, largest), _Averages(mean, largest)

    return optax.GradientTransformation(init, update)


class _Averaged(NamedTuple):
    inner: Any
    mean: Any  # of the weights


def averaged(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """`optimizer`, with a running mean of the weights in its state.

    mean <- decay mean + (1 - decay) weights, from the first weights on.
    """

    def init(params: Any) -> _Averaged:
        return _Averaged(optimizer.init(params), params)

    def update(gradient: Any, state: _Averaged, params: Any = None) -> tuple[Any, _Averaged]:
        step, inner = optimizer.update(gradient, state.inner, params)
        mean = optax.incremental_update(optax.apply_updates(params, step), state.mean, 1 - decay)
        return step, _Averaged(inner, mean)

    return optax.GradientTransformation(init, update)


def optimizer(config: Config, epochs: int, updates: int) -> optax.GradientTransformation:
    """Of a phase of so many epochs, of so many updates each."""
    if config.recipe == "paper":
        found = their_adamax(5e-4)
    else:
        steps = max(epochs, 2) * updates
        rate = optax.warmup_cosine_decay_schedule(1e-5, 1e-3, updates, steps, 1e-5)
        adam = optax.adam(rate if config.schedule == "cosine" else 1e-3)
        found = hvax.training.scale_flow_updates(hvax.training.clip_by_running_norm(adam))
    return averaged(found, config.average) if config.average else found


class Trained(NamedTuple):
    model: Any
    epochs: int
    best_epoch: int
    seconds: float


def train(config: Config, seed: int, parts: Parts) -> Trained:
    """By way of a plain VAE, where that comes first."""
    model: Any = start(config, parts.train, key=jax.random.key(seed))
    seconds, plain = 0.0, 0 if config.flow == "none" else config.plain_epochs
    for phase, epochs in [("plain", plain), ("end", config.epochs)][plain == 0 :]:
        if phase == "end" and config.flow != "none":
            d = model.posterior(jnp.zeros(parts.train.x_shape)).mean.size
            model = hvax.HVAE(model, flow_of(config, d))
        fitted = hvax.fit(
            model,
            parts.train,
            validation=parts.validation,
            optimizer=optimizer(config, epochs, len(parts.train) // config.batch_size),
            epochs=epochs,
            batch_size=config.batch_size,
            train_samples=config.train_samples,
            transform=binary,
            patience=100 if config.recipe == "paper" else None,
            seed=seed,
            run_dir=MNIST / "checkpoints" / f"{config.hash}-{seed}" / phase,
            resume=True,
            handle_signals=True,
        )
        if fitted.ended in ("interrupted", "terminated"):
            raise SystemExit(f"{fitted.ended}; the same command goes on.")
        model, seconds = fitted.model, seconds + fitted.seconds_training
        if config.average:
            model = eqx.combine(fitted.state.opt_state.mean, model)
    return Trained(model, plain + len(fitted.history), plain + fitted.best_epoch, seconds)


def score(model: Any, test: np.ndarray, num_samples: int, passes: int) -> dict[str, Any]:
    """The ELBO, and the NLL of each pass."""
    found = [
        hvax.evaluate(model, test, key=jax.random.key(number), num_samples=num_samples)
        for number in range(passes)
    ]
    return {
        "test_points": len(test),
        "num_samples": num_samples,
        "elbo": float(np.mean([one.elbo for one in found])),
        "nll": float(np.mean([one.nll for one in found])),
        "nll_passes": [one.nll for one in found],
        "nll_se": found[0].nll_se,
        "nll_bias": found[0].nll_bias,
        "untrusted": found[0].untrusted,
        "distance": found[0].distance,
    }


def run(config: Config, seed: int, options: argparse.Namespace) -> Path:
    path = MNIST / f"{config.hash}-{seed}.json"
    if path.exists():
        return path
    parts = parts_of("mnist", data_dir=options.data_dir, seed=seed)
    trained = train(config, seed, parts)
    watched = hvax.evaluate(
        trained.model, parts.validation, key=jax.random.key(0), num_samples=1, progress=False
    )
    scores = score(
        trained.model, spaced(parts.test, options.points), options.num_samples, options.passes
    )
    record = {
        "config": config.told,
        "hash": config.hash,
        "seed": seed,
        "hvax": hvax.__version__,
        "device": str(jax.devices()[0]),
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "seconds": trained.seconds,
        "seconds_per_epoch": trained.seconds / trained.epochs,
        "validation": watched.elbo,
        **scores,
    }
    write(path, record)
    return path


# Tables


def runs() -> dict[str, list[dict[str, Any]]]:
    """Those of each hash, by seed; in the order of the table."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(MNIST.glob("*-*.json")):
        record = json.loads(path.read_text())
        found.setdefault(record["hash"], []).append(record)
    return dict(sorted(found.items(), key=lambda item: _order(item[1])))


def against(other: str) -> str:
    """What every setting of the same network has more than that of this hash, seed by seed."""
    found = runs()
    if other not in found:
        raise SystemExit(f"no run has the hash {other}: these have {', '.join(found)}.")
    theirs = {record["seed"]: record for record in found[other]}
    network = found[other][0]["config"]["network"]
    rows = []
    for name, records in found.items():
        pairs = [(r, theirs[r["seed"]]) for r in records if r["seed"] in theirs]
        if name == other or not pairs or records[0]["config"]["network"] != network:
            continue
        config = Config(**records[0]["config"])
        elbo, nll = (over([a[key] - b[key] for a, b in pairs]) for key in ("elbo", "nll"))
        what = f"{config.name}, {config.recipe}"
        rows.append((what, config.phases, len(pairs), elbo, nll, f"`{name}`"))
    return markdown((f"less `{other}`", "epochs", "seeds", "ELBO", "NLL", "hash"), rows)


def table() -> str:
    """Every setting that was run, with the spread over its seeds, and the paper's table."""
    head = ["setting", "network", "recipe", "epochs", "seconds", "seeds"]
    head += ["validation ELBO", "test ELBO", "test NLL", "hash"]
    rows = []
    for records in runs().values():
        config = Config(**records[0]["config"])
        seconds = np.mean([record["seconds"] for record in records])
        seeds = ", ".join(str(record["seed"]) for record in records)
        scores = (over([r[key] for r in records]) for key in ("validation", "elbo", "nll"))
        run = (config.name, config.network, config.recipe, config.phases, f"{seconds:.0f}", seeds)
        rows.append((*run, *scores, f"`{records[0]['hash']}`"))
    published = [
        (*setting, *(f"{value:.2f}" if value else "–" for value in values))
        for setting, values in PUBLISHED.items()
    ]
    return "\n".join(
        (
            markdown(head, rows),
            "",
            "Published, test NLL (the plain VAE: 83.20):",
            "",
            markdown(("K", "step size", *TEMPERINGS), published),
        )
    )


def _order(records: list[dict[str, Any]]) -> tuple[Any, ...]:
    config = Config(**records[0]["config"])
    return config.network, config.recipe, -np.mean([record["nll"] for record in records])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choices = {
        "network": ("conv", "mlp"),
        "flow": ("none", "hvae", "uha", "dais"),
        "tempering": TEMPERINGS,
        "step_size": ("per-layer", "shared"),
        "recipe": ("paper", "hvax"),
        "schedule": ("cosine", "constant"),
    }
    for field in dataclasses.fields(Config):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            choices=choices.get(field.name),
            help=f"default: {field.default}",
        )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--points", type=int, default=10_000, help="test images, at most")
    parser.add_argument("--num-samples", type=int, default=1000, help="of the NLL")
    parser.add_argument("--passes", type=int, default=3, help="of the NLL")
    parser.add_argument("--table", action="store_true", help="the tables alone")
    parser.add_argument("--against", metavar="HASH", help="only: all others less that setting")
    options = parser.parse_args()
    if options.against:
        print(against(options.against))
        return
    if not options.table:
        told = {field.name: getattr(options, field.name) for field in dataclasses.fields(Config)}
        print(run(Config(**told), options.seed, options).read_text())
    print(table())


if __name__ == "__main__":
    main()
