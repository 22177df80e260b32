"""A training step of hvax beside the best PyTorch, in turn: A B A B, and the ratio.

    python benchmarks/step.py                        # every net, its own K and batch
    python benchmarks/step.py --nets mlp --steps 0 1 3 5 10 20
    python benchmarks/step.py --nets mlp conv --steps 3 10 --batches 100 1000 --device cuda

Each side is a process of its own that holds its model, data and optimizer, and is asked in turn for
some steps; the other one waits. A round gives one ratio (PyTorch's ms over hvax's, so that more is
faster), and the table their median, least and greatest. PyTorch runs in the mode that was fastest
in the same run. Before anything is timed, losses and gradients of both are compared in float64.

PyTorch is looked for in .venv-torch/bin/python (or --torch); without it hvax is timed alone. The
floor is what the step's matrix products take alone, at the speed that they reach in its batch,
measured in the same round.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nets import NETS as SIZES

HERE = Path(__file__).parent
MODES = ("auto:eager", "vjp:eager", "hand:eager", "hand:compile")
CHANNELS_LAST = ("auto:eager-cl", "hand:eager-cl", "hand:compile-cl")
_CHUNK = 1.0  # seconds of steps that a side does in one round
_START = 900  # seconds that a side may take to compile


def main() -> None:
    options = arguments()
    torch = options.torch if Path(options.torch).exists() else None
    if torch is None:
        print(f"no PyTorch at {options.torch}: hvax alone\n")
    else:
        for name in options.nets:
            print(agreement(name, torch))
        print()
    print(HEAD)
    for name in options.nets:
        for steps in options.steps or [SIZES[name].steps]:
            for batch in options.batches or [SIZES[name].batch]:
                for row in rows(name, steps, batch, torch, options):
                    print(row, flush=True)


HEAD = (
    "| net | K | batch | hvax runs | hvax ms | PyTorch ms | PyTorch mode | ratio (least to most) "
    "| hvax over floor | hvax MB | PyTorch MB | hvax compiles | PyTorch's first step |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


class Side:
    """One process that answers with the milliseconds of the steps it is asked for."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None):
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.about = self._answer()
        self._count = 1
        self._count = max(1, int(_CHUNK * 1e3 / self.ms()["ms"]))

    def ms(self) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._count}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self._process.args))} ended")
        return json.loads(line)


def rows(name: str, steps: int, batch: int, torch: str | None, options: Any) -> list[str]:
    """One line of the table for each way in which hvax runs."""
    common = ["--steps", str(steps), "--batch", str(batch), "--device", options.device]
    peer, mode = best_peer(name, steps, torch, common) if torch else (None, "-")
    found = []
    for run in ("loop", "step") if name == "tiny" else ("loop",):
        remat = ["--remat"] if options.remat else []
        command = [sys.executable, str(HERE / "hvax_side.py"), "time", f"{name}:{run}", *common]
        ours = Side([*command, *remat])
        times: list[tuple[float, float, float]] = []
        for _ in range(options.rounds):
            answer = ours.ms()
            theirs = peer.ms()["ms"] if peer else math.nan
            times.append((answer["ms"], theirs, answer["floor_ms"]))
        ours.close()
        found.append(line(name, steps, batch, run, times, mode, ours.about, peer))
    if peer:
        peer.close()
    return found


def line(
    name: str,
    steps: int,
    batch: int,
    run: str,
    times: list[tuple[float, float, float]],
    mode: str,
    about: dict[str, Any],
    peer: Side | None,
) -> str:
    ours, theirs, _ = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(b / a for a, b, _ in times)
    over = statistics.median(a / c for a, _, c in times)
    cells = [name, str(steps), str(batch), run, f"{ours:.2f}"]
    if peer:
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        cells += [f"{theirs:.2f}", mode, spread]
    else:
        cells += ["-", "-", "-"]
    cells += [f"{over:.2f}", f"{about['memory_mb']:.0f}"]
    cells += [f"{peer.about['memory_mb']:.0f}" if peer else "-", f"{about['compile_s']:.1f} s"]
    cells += [f"{peer.about['first_s']:.1f} s" if peer else "-"]
    return "| " + " | ".join(cells) + " |"


def best_peer(name: str, steps: int, torch: str, common: list[str]) -> tuple[Side, str]:
    """PyTorch in its fastest mode; one that does not start is left out, and said so."""
    modes = ("vae:eager", "vae:compile") if steps == 0 else MODES
    if name == "conv" and steps > 0:
        modes += CHANNELS_LAST
    sides = {}
    for mode in modes:
        command = [torch, "-W", "ignore", str(HERE / "torch_hvae.py"), "time", f"{name}:{mode}"]
        try:
            sides[mode] = Side([*command, *common], {"OMP_NUM_THREADS": str(os.cpu_count())})
        except RuntimeError as error:
            print(f"PyTorch did not run as {mode}: {error}", file=sys.stderr)
    speed = {mode: min(side.ms()["ms"] for _ in range(3)) for mode, side in sides.items()}
    best = min(speed, key=lambda mode: speed[mode])
    for mode, side in sides.items():
        if mode != best:
            side.close()
    shown = ", ".join(f"{mode} {ms:.1f}" for mode, ms in sorted(speed.items(), key=lambda p: p[1]))
    print(f"PyTorch, {name}, K = {steps}: {shown} ms", file=sys.stderr, flush=True)
    return sides[best], best


def agreement(name: str, torch: str) -> str:
    """Loss and gradients of both sides in float64, with equal weights and noise."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "peer.npz"
        common = ["--steps", "3", "--batch", "4"]
        export = [torch, str(HERE / "torch_hvae.py"), "export", name, str(file), *common]
        subprocess.run(export, check=True)
        ours = [sys.executable, str(HERE / "hvax_side.py"), "compare", name, str(file)]
        done = subprocess.run([*ours, *common], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    if max(found.values()) > 1e-9:
        sys.exit(f"{name}: hvax and PyTorch do not agree: {found}")
    return f"{name}: relative differences to PyTorch in float64: " + ", ".join(
        f"{what} {value:.0e}" for what, value in found.items()
    )


def arguments() -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", choices=SIZES, default=tuple(SIZES))
    parser.add_argument("--steps", nargs="+", type=int, help="K; by default each net's own")
    parser.add_argument("--batches", nargs="+", type=int, help="by default each net's own")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--remat", action="store_true", help="hvax computes the flow again")
    parser.add_argument("--torch", default=str(HERE.parent / ".venv-torch/bin/python"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
