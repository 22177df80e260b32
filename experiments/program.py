"""The program itself, at equal seconds: `hvax train mnist` with a flow, without one, as an IWAE.

    python -m experiments.program --data-dir data     # real runs of `hvax`, each a JSON file
    python -m experiments.program --table

The epochs of each are those that its pace allows in the same time (results/flows/mnist/pace.json),
`--units` times an epoch of the plain VAE. A flow has the program's own share of them, or, "early",
a quarter of the epochs. NLLs are by importance sampling on 1,000 test images, with ten times as
many draws where there is no flow, whose draws cost as much less.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.common import RESULTS, markdown, over, write
from hvax.training.schedule import epochs_with_flow

PROGRAM, PACE = RESULTS / "program", RESULTS / "flows" / "mnist" / "pace.json"
SOURCE = "mnist"
SETTINGS = {  # options, and draws of the NLL
    "vae": ("--model vae", 5000),
    "iwae 5, dreg": ("--model vae --train-samples 5 --estimator dreg", 5000),
    "dais 4": ("--no-baseline", 500),  # the program's own
    "uha 4": ("--flow uha --no-baseline", 500),
    "uha 4, early": ("--flow uha --no-baseline", 500),
}
UPDATES = 500  # of an epoch: 50,000 images


def epochs_of(name: str, units: int) -> str:
    """The options for what takes as long as so many epochs of the plain VAE."""
    pace = json.loads(PACE.read_text())["seconds"]
    each = pace[name.removesuffix(", early")] / pace["vae"]  # in units

    def taken(epochs: int) -> float:
        own = with_flow(name, epochs)
        return epochs - own + each * own

    epochs = min(range(1, units + 1), key=lambda epochs: abs(taken(epochs) - units))
    early = f" --flow-from-epoch {epochs - with_flow(name, epochs) + 1}"
    return f"--epochs {epochs}{early if name.endswith('early') else ''}"


def with_flow(name: str, epochs: int) -> int:
    """In how many of the epochs the setting is itself, rather than the plain VAE."""
    if name.endswith("early"):
        return math.ceil(epochs / 4)
    return epochs if "--model vae" in SETTINGS[name][0] else epochs_with_flow(epochs, 4, UPDATES)


def run(name: str, seed: int, units: int, data_dir: str) -> dict[str, Any]:
    options, draws = SETTINGS[name]
    folder, epochs = PROGRAM / "checkpoints" / f"{name}-{seed}-{units}", epochs_of(name, units)
    train = f"train {SOURCE} {options} {epochs} --seed {seed} --no-report --no-progress"
    resume = ["--resume"] if (folder / "config.json").exists() else []
    _hvax(*train.split(), "--data-dir", data_dir, "--run-dir", str(folder), *resume)
    _hvax("evaluate", str(folder), "--num-samples", str(draws), "--no-progress")
    results = json.loads((folder / "results.json").read_text())
    (row,) = (results[name] for name in ("vae", "hvae") if name in results)
    scores = json.loads((folder / "evaluation.json").read_text())
    return {
        "setting": name,
        "seed": seed,
        "units": units,
        "command": f"hvax {train}",
        "epochs": row["epochs"],
        "seconds_training": row["seconds_training"],
        **{key: scores[key] for key in ("elbo", "nll", "nll_mc_se", "num_samples", "num_points")},
    }


def _hvax(*arguments: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("hvax")), *arguments], check=True)


def table() -> str:
    rows = []
    records = [json.loads(path.read_text()) for path in sorted(PROGRAM.glob("*.json"))]
    for name in SETTINGS:
        for units in sorted({r["units"] for r in records if r["setting"] == name}):
            runs = [r for r in records if (r["setting"], r["units"]) == (name, units)]
            scores = (over([r[key] for r in runs]) for key in ("seconds_training", "elbo", "nll"))
            rows.append((f"`{SETTINGS[name][0]} {epochs_of(name, units)}`", len(runs), *scores))
    return markdown(("`hvax train mnist`", "seeds", "seconds", "ELBO", "NLL"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--units", type=int, default=60, help="of time: epochs of the plain VAE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=tuple(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--table", action="store_true", help="the table of what was run")
    options = parser.parse_args()
    todo = [] if options.table else [(n, seed) for seed in options.seeds for n in options.only]
    for name, seed in tqdm(todo, unit="run", disable=not todo):
        path = PROGRAM / f"{name}-{seed}-{options.units}.json"
        if not path.exists():
            write(path, run(name, seed, options.units, options.data_dir))
    print(table())


if __name__ == "__main__":
    main()
