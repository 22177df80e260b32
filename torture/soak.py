"""A long, reckless training: python -m torture.soak NET STEPS; exits with 1 where it went wrong."""

import logging
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import hvax

PAGES = resource.getpagesize()


def main(net: str, steps: int) -> int:
    model, batch = _model(net)
    x = (np.random.default_rng(0).uniform(size=(batch * 20, *_SHAPES[net])) < 0.3).astype(np.uint8)
    epochs, sizes = steps // 20, []
    compiled = _count_compilations()

    def after_epoch(event: Any) -> None:
        sizes.append((_resident(), len(compiled)))

    ended, skipped = "", 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fitted = hvax.fit(
                model, x, validation=x[:batch], epochs=epochs, batch_size=batch,
                optimizer=optax.adam(0.3), callback=after_epoch, progress=False,
                flow_from_epoch=1, patience=0,
            )  # fmt: skip
            ended, skipped = fitted.ended, fitted.skipped
            finite = all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(fitted.model))
        except FloatingPointError as error:
            ended, finite = f"stopped: {str(error)[:120]}...", "try a smaller" in str(error).lower()
    warm = sizes[len(sizes) // 4] if sizes else (_resident(), len(compiled))
    growth = sizes[-1][0] / warm[0] - 1 if sizes else 0.0
    again = sizes[-1][1] - warm[1] if sizes else 0
    print(
        f"{len(sizes) * 20} steps, {ended}; {skipped} updates left out; resident memory "
        f"{growth:+.1%} after warm-up; {again} compilations after it"
    )
    return 0 if finite and growth < 0.05 and again == 0 else 1


_SHAPES = {"tiny": (64,), "conv": (28, 28)}


def _model(net: str) -> tuple[hvax.HVAE, int]:
    key = jax.random.key(0)
    if net == "conv":
        vae, steps, batch = hvax.VAE(*hvax.conv(64, key=key)), 5, 100
    else:
        vae, steps, batch = hvax.VAE(*hvax.mlp((64,), 2, hidden=(64,), key=key)), 3, 64
    return hvax.HVAE(vae, hvax.HamiltonianFlow(steps, hvax.Learned(1.5, upper=2.0))), batch


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGES


def _count_compilations() -> list[str]:
    """A list that grows with every compilation of JAX's."""
    compiled: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "XLA compilation of" in record.getMessage():
                compiled.append(record.getMessage())

    jax.config.update("jax_log_compiles", True)
    logger = logging.getLogger("jax")
    logger.addHandler(Handler())
    logger.propagate = False
    return compiled


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
