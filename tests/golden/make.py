"""Makes the golden run of this version: python tests/golden/make.py FOLDER. Never made again."""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from hvax.cli import main
from hvax.storage.structure import load

TRAIN = (
    "train digits --epochs 2 --hidden 6 --latent-size 2 --num-samples 5 --test-points 10"
    " --batch-size 64 --num-steps 2 --no-progress --no-report --run-dir"
)


def outputs(model) -> dict[str, np.ndarray]:
    """What must stay: of encoder, decoder, potential and flow, without random numbers."""
    x = jnp.asarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    z = jnp.asarray(np.array([0.3, -1.2], np.float32))
    vae = getattr(model, "vae", model)
    posterior = vae.posterior(x)
    found = {
        "mean": posterior.mean,
        "log_sigma": posterior.log_sigma,
        "logits": vae.decoder(z),
        "potential": vae.potential(x)(z)[0],
    }
    if vae is not model:
        space = model.flow.transport(vae.potential(x), z=z, gamma=z[::-1]).trajectory
        found |= {"z_final": space.z_final, "beta": space.beta}
    return {name: np.asarray(value) for name, value in found.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    assert main([*TRAIN.split(), str(folder)]) == 0
    for part in (folder, folder / "baseline"):
        np.savez(part / "outputs.npz", **outputs(load(part / "model")))
