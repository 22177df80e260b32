"""Bounds and likelihoods against seconds: the plain VAE, the IWAE and the flows, at several K.

    python -m experiments.flows pace --data mnist --data-dir data  # seconds of an epoch of each
    python -m experiments.flows run --data mnist --data-dir data   # a JSON file for each run
    python -m experiments.flows ais --data mnist --data-dir data   # AIS of what each ended with
    python -m experiments.flows draw --data mnist                  # docs/figures/flows-mnist.png

Every setting has the same seconds in all. It spends three quarters of them as the plain VAE of its
seed and the rest as itself, but for those called "half" and "throughout", which are themselves for
half of them, and from the start.
Seconds are counted by the pace: every setting's seconds of an epoch, measured in turn on an idle
machine. So the runs themselves may share a machine, and be stopped and started: what is there
already is not run again. What a setting has after its last budget is kept under checkpoints/, and
`ais` adds its likelihood by annealed importance sampling, which favors no setting's own proposal.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from tqdm import tqdm

import hvax
from experiments.common import (
    BATCH,
    FIGURES,
    RESULTS,
    binary,
    markdown,
    over,
    parts_of,
    spaced,
    write,
)

FLOWS = RESULTS / "flows"


class Data(NamedTuple):
    """What a data set is trained and scored with."""

    latent_size: int
    hidden: tuple[int, ...]
    budgets: tuple[float, ...]  # seconds of training in all; the last for `LONGER` alone
    points: int  # test points
    num_samples: int  # of the NLL; ten times as many without a flow, where one costs as much less


DATA = {
    "mnist": Data(20, (400,), (40.0, 80.0, 160.0, 320.0), 500, 200),
    "digits": Data(20, (400,), (2.0, 4.0, 8.0, 16.0), 180, 500),
}
AIS_POINTS = 100
LONGER = ("vae", "iwae 5", "iwae 5, dreg", "uha 4", "dais 4", "dais 8")


class Setting(NamedTuple):
    """How a run ends that begins as a plain VAE."""

    flow: Callable[[], hvax.HamiltonianFlow] | None
    num_samples: int = 1
    estimator: str = "standard"
    share: float = 0.25  # of all seconds

    @property
    def of_fit(self) -> dict[str, Any]:
        """What `fit` is told of it."""
        told: dict[str, Any] = {"train_samples": self.num_samples}
        if self.estimator != "standard":
            told["loss_kwargs"] = {"estimator": self.estimator}
        return told


def settings() -> dict[str, Setting]:
    """Those of the figure; a name is a kind, and K or the number of draws."""
    found = {"vae": Setting(None), "iwae 5": Setting(None, 5)}
    found["iwae 5, dreg"] = Setting(None, 5, "dreg")
    for K in (1, 4, 8, 16):
        found[f"hvae {K}"] = Setting(partial(hvax.HamiltonianFlow.hvae, K))
        found[f"uha {K}"] = Setting(partial(hvax.HamiltonianFlow.uha, K))
        found[f"dais {K}"] = Setting(partial(hvax.HamiltonianFlow.dais, K))
    found["dais 4, 5 draws"] = Setting(partial(hvax.HamiltonianFlow.dais, 4), 5)
    for name, share in (("dais 4, half", 0.5), ("dais 4, throughout", 1.0)):
        found[name] = Setting(partial(hvax.HamiltonianFlow.dais, 4), share=share)
    return found


class World:
    """A data set, split and binarized as the program does it."""

    def __init__(self, name: str, data_dir: str):
        parts = parts_of(name, data_dir=data_dir)
        self.options = DATA[name]
        self.train = parts.train
        self.test = spaced(parts.test, self.options.points)

    def start(self, seed: int) -> hvax.VAE:
        """The plain VAE before any training."""
        encoder, decoder = hvax.mlp(
            self.train.x_shape,
            self.options.latent_size,
            hidden=self.options.hidden,
            key=jax.random.key(seed),
        )
        return hvax.VAE(encoder, decoder)

    def fit(
        self,
        model: Any,
        epochs: int,
        *,
        seed: int = 0,
        x: Any = None,
        **options: Any,
    ) -> hvax.Fit:
        fitted = hvax.fit(
            model,
            self.train if x is None else x,
            epochs=epochs,
            batch_size=BATCH,
            optimizer=hvax.training.scale_flow_updates(
                hvax.training.clip_by_running_norm(optax.adam(1e-3))
            ),
            transform=binary,
            seed=seed,
            progress=False,
            handle_signals=True,
            **options,
        )
        if fitted.ended != "finished":
            raise SystemExit(f"{fitted.ended}; the same command goes on.")
        return fitted

    def score(self, model: Any) -> dict[str, float]:
        ten = 1 if isinstance(model, hvax.HVAE) else 10
        found = hvax.evaluate(
            model,
            self.test,
            key=jax.random.key(0),
            num_samples=ten * self.options.num_samples,
            progress=False,
        )
        return {
            "elbo": found.elbo,
            "nll": found.nll,
            "nll_mc_se": found.nll_mc_se,
            "untrusted": found.untrusted,
            "distance": found.distance,
        }


def paces(world: World, names: list[str], rounds: int = 3, updates: int = 100) -> dict[str, float]:
    """Seconds of an epoch of each setting, the least of `rounds` in turn, compilation apart."""
    vae, found = world.start(0), dict.fromkeys(names, np.inf)
    some = world.train[: min(len(world.train), updates * BATCH)]
    todo = [name for _ in range(rounds) for name in names]
    for name in tqdm(todo, unit="setting"):
        setting = settings()[name]
        fitted = world.fit(_model(vae, setting), 1, x=some, **setting.of_fit)
        seconds = fitted.seconds_training * len(world.train) / len(some)
        found[name] = min(found[name], seconds)
    return found


def _model(vae: hvax.VAE, setting: Setting) -> hvax.VAE | hvax.HVAE:
    return vae if setting.flow is None else hvax.HVAE(vae, setting.flow())


def plain_vaes(world: World, seed: int, ages: set[int], folder: Path) -> dict[int, hvax.VAE]:
    """The plain VAE of a seed after so many epochs: one training, looked at on its way."""
    found = {0: world.start(seed)}
    for age in sorted(ages - {0}):
        path = folder / f"vae-{seed}" / str(age)
        if not path.exists():
            older = any(int(other.name) > age for other in path.parent.glob("*"))
            kept = {
                "run_dir": folder / "checkpoints" / f"plain-{seed}",
                "resume": True,
                "save_seconds": 1e9,
            }
            fitted = world.fit(found[0], age, seed=seed, **({} if older else kept))
            hvax.save(fitted.model, path)
        found[age] = hvax.load(path)
    return found


class Stop(NamedTuple):
    """How long a setting trains for a budget."""

    plain_epochs: int
    epochs: int
    seconds: float


def stops(world: World, name: str, pace: dict[str, float]) -> list[Stop]:
    """One for each budget of a setting."""
    budgets, share = world.options.budgets, settings()[name].share
    found = []
    for budget in budgets if name in LONGER else budgets[:-1]:
        if name == "vae":
            plain, epochs = round(budget / pace["vae"]), 0
        else:
            plain = round((1 - share) * budget / pace["vae"])
            epochs = max(1, round(share * budget / pace[name]))
        found.append(Stop(plain, epochs, plain * pace["vae"] + epochs * pace[name]))
    return found


def run(
    world: World, name: str, seed: int, vaes: dict[int, hvax.VAE], pace: dict[str, float]
) -> tuple[dict[str, Any], Any]:
    """The curve of one setting, its scores after each budget of seconds, and its last model."""
    setting, curve = settings()[name], []
    for stop in stops(world, name, pace):
        model: Any = vaes[stop.plain_epochs]
        if stop.epochs:
            start = _model(model, setting)
            model = world.fit(start, stop.epochs, seed=seed + 1, **setting.of_fit).model
        curve.append({**stop._asdict(), **world.score(model)})
    record = {"setting": name, "seed": seed, "hvax": hvax.__version__, "curve": curve}
    if isinstance(model, hvax.HVAE):
        flow = model.flow
        record["step_sizes"] = np.asarray(flow.step_sizes).tolist()
        record["bridge"] = flow.bridge and np.asarray(flow.bridge.weights(flow.num_steps)).tolist()
        record["eta"] = flow.eta and float(flow.eta.value)
    return record, model


def run_all(data: str, data_dir: str, seeds: list[int], only: list[str]) -> None:
    world, folder = World(data, data_dir), FLOWS / data
    pace = json.loads((folder / "pace.json").read_text())["seconds"]
    chosen = only or list(settings())
    for name in chosen:
        if name.endswith((", half", ", throughout")):
            pace[name] = pace[name.split(",")[0]]
    if unknown := sorted({"vae", *chosen} - pace.keys()):
        raise SystemExit(f"no pace is known of {', '.join(unknown)}: measure it first.")
    todo = [
        (name, seed)
        for seed in seeds
        for name in chosen
        if not (folder / f"{name}-{seed}.json").exists()
    ]
    shares = {1.0, *(1 - setting.share for setting in settings().values())}
    ages = {round(share * b / pace["vae"]) for share in shares for b in world.options.budgets}
    with tqdm(todo, unit="run") as bar:
        for name, seed in bar:
            bar.set_description(f"{name}, seed {seed}")
            vaes = plain_vaes(world, seed, ages, folder)
            record, model = run(world, name, seed, vaes, pace)
            hvax.save(model, _ended_with(folder, name, seed))
            write(folder / f"{name}-{seed}.json", record)
            end = record["curve"][-1]
            bar.write(
                f"{name:18} seed {seed}: ELBO {end['elbo']:.2f}, NLL {end['nll']:.2f} after "
                f"{end['seconds']:.0f} s, {end['plain_epochs']} + {end['epochs']} epochs"
            )
            jax.clear_caches()  # hundreds of programs are more than a process may map


def _ended_with(folder: Path, name: str, seed: int) -> Path:
    return folder / "checkpoints" / f"{name}-{seed}"


def anneal_all(data: str, data_dir: str, seeds: list[int], only: list[str]) -> None:
    """The likelihood of each last model by AIS, from its encoder, added to its record."""
    world, folder = World(data, data_dir), FLOWS / data
    test = spaced(world.test, AIS_POINTS)
    for record in list(results(data)):
        name, seed = record["setting"], record["seed"]
        if seed not in seeds or (only and name not in only) or "ais" in record:
            continue
        found = hvax.annealed_importance_sampling(
            hvax.load(_ended_with(folder, name, seed)),
            test,
            key=jax.random.key(0),
            start="posterior",
            num_temperatures=500,
        )
        nll = -found.lower
        record["ais"] = {
            "nll": float(nll.mean()),
            "points": len(nll),
            "acceptance": found.acceptance,
            "each": nll.round(3).tolist(),
        }
        write(folder / f"{name}-{seed}.json", record)
        print(f"{name:18} seed {seed}: NLL {nll.mean():.2f} by AIS", flush=True)


def measure_pace(data: str, data_dir: str, only: list[str]) -> None:
    """Into pace.json, where what is known stays unless it is undercut."""
    path = FLOWS / data / "pace.json"
    known = json.loads(path.read_text())["seconds"] if path.exists() else {}
    found = paces(World(data, data_dir), only or list(settings()))
    record = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "jax": jax.__version__,
        "seconds": known | {name: min(found[name], known.get(name, np.inf)) for name in found},
    }
    write(path, record)


def results(data: str) -> Iterator[dict[str, Any]]:
    for path in sorted((FLOWS / data).glob("*-*.json")):
        yield json.loads(path.read_text())


def by_setting(data: str) -> dict[str, list[dict[str, Any]]]:
    """The runs of each setting, a seed each, in the order of `settings`."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in settings()}
    for record in results(data):
        found[record["setting"]].append(record)
    return {name: records for name, records in found.items() if records}


def table(data: str) -> str:
    """Mean and standard deviation over seeds at the last two budgets, as Markdown."""
    rows = []
    budgets = DATA[data].budgets
    for at in (len(budgets) - 2, len(budgets) - 1):
        for name, records in by_setting(data).items():
            points = [r["curve"][at] for r in records if at < len(r["curve"])]
            if not points:
                continue
            last = at == len(records[0]["curve"]) - 1
            ais = [r["ais"]["nll"] for r in records if last and "ais" in r]
            seconds, plain, own = (
                np.mean([point[key] for point in points])
                for key in ("seconds", "plain_epochs", "epochs")
            )
            scores = (over([point[key] for point in points]) for key in ("elbo", "nll"))
            spent = (f"{seconds:.0f}", f"{plain:.0f} + {own:.0f}")
            rows.append((name, len(points), *spent, *scores, over(ais) if ais else "–"))
    head = ("setting", "seeds", "seconds", "plain epochs + its own", "ELBO", "NLL", "NLL by AIS")
    return markdown(head, rows)


def apart(data: str) -> str:
    """How far each setting's NLL by AIS is above another's, point by point.

    Mean over seeds and points, ± standard error over points.
    """
    nlls = {
        name: np.mean([record["ais"]["each"] for record in records], axis=0)
        for name, records in by_setting(data).items()
        if all("ais" in record for record in records)
    }
    rows = []
    for name, nll in nlls.items():
        above = [nll - other for other in nlls.values()]
        errors = [np.std(each, ddof=1) / len(each) ** 0.5 for each in above]
        rows.append(
            (name, *(f"{d.mean():+.2f} ± {e:.2f}" for d, e in zip(above, errors, strict=True)))
        )
    return markdown(("above:", *nlls), rows)


def draw(data: str) -> Path:
    """ELBO and NLL against seconds, a line per setting: the median of its seeds, with their range.

    What is 20 nats behind the best is off the picture: trajectories that diverge cost hundreds.
    """
    import matplotlib.pyplot as plt

    colors = {
        "vae": "0.25",
        "iwae 5": "tab:orange",
        "iwae 5, dreg": "tab:red",
        "dais 4, 5 draws": "tab:brown",
        "dais 4, half": "tab:olive",
        "dais 4, throughout": "tab:pink",
        "hvae": "tab:green",
        "uha": "tab:blue",
        "dais": "tab:purple",
    }
    styles = {"1": ":", "8": "--", "16": "-."}
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    shown: dict[str, list[float]] = {"elbo": [], "nll": []}
    for name, records in by_setting(data).items():
        kind, _, size = name.partition(" ")
        curves = [record["curve"] for record in records]
        seconds = np.mean([[point["seconds"] for point in curve] for curve in curves], axis=0)
        for axis, key in zip(axes, ("elbo", "nll"), strict=True):
            values = np.array([[point[key] for point in curve] for curve in curves])
            shown[key] += values.ravel().tolist()
            color = colors.get(name) or colors[kind]
            style = styles.get(size, "-")
            axis.plot(seconds, np.median(values, 0), style, color=color, label=name, lw=1.5)
            axis.fill_between(seconds, values.min(0), values.max(0), color=color, alpha=0.1, lw=0)
    budgets = DATA[data].budgets
    for axis, title, best in zip(axes, ("ELBO", "NLL"), (max, min), strict=True):
        axis.set(xlabel="seconds of training in all", ylabel=f"test {title}, nats", xscale="log")
        axis.set_xticks(budgets, [f"{budget:g}" for budget in budgets], minor=False)
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
        values = shown[title.lower()]
        near = [value for value in values if abs(value - best(values)) < 20]
        axis.set_ylim(min(near), max(near))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    FIGURES.mkdir(exist_ok=True)
    path = FIGURES / f"flows-{data}.png"
    figure.savefig(path, dpi=130)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=("pace", "run", "ais", "draw"))
    parser.add_argument("--data", choices=tuple(DATA), default="mnist")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[], help="settings, such as 'dais 4'")
    options = parser.parse_args()
    if options.what == "pace":
        measure_pace(options.data, options.data_dir, options.only)
        return
    if options.what == "run":
        run_all(options.data, options.data_dir, options.seeds, options.only)
    elif options.what == "ais":
        anneal_all(options.data, options.data_dir, options.seeds, options.only)
    else:
        print(draw(options.data))
    print(table(options.data), apart(options.data), sep="\n\n")


if __name__ == "__main__":
    main()
