"""`hvax encode`, `reconstruct` and `sample`: to the latent space of a run and back, as files."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from hvax.commands.build import load_parts
from hvax.commands.directory import Run, open_run
from hvax.commands.select import new_file, run_data
from hvax.config import Encode, Reconstruct, Sample
from hvax.data.binarise import binarise_once
from hvax.evaluation.latent import decoded, encode, interpolation, prior_samples, reconstructions
from hvax.report.grid import save_grid

_SHOWN = 64  # images in a .png
_FITTED = 20_000  # training points behind a mixture, at most


def encode_run(config: Encode) -> int:
    """The program's `encode`; its exit code."""
    run = open_run(config.run)
    new_file(config.out, (".npz",))
    data, labels = run_data(run, config.source, config.data_dir)
    samples = 1 if config.weights is None else config.weights
    if samples < 1:
        raise ValueError(f"--weights must be >= 1, got {config.weights}.")
    key = jax.random.key(config.seed)
    encoding = encode(run.model, data, key=key, num_samples=samples, progress=config.progress)
    arrays: dict[str, NDArray[Any]] = {"mean": encoding.mean, "sigma": encoding.sigma}
    if config.weights is None:
        arrays["z"] = encoding.z[:, 0]
    else:
        arrays |= {"z": encoding.z, "log_weight": encoding.log_weight}
    if labels is not None:
        arrays["labels"] = labels
    with config.out.open("xb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{config.out}: {shapes}")
    return 0


def reconstruct_run(config: Reconstruct) -> int:
    """The program's `reconstruct`; its exit code."""
    run = open_run(config.run)
    new_file(config.out, (".npy", ".png"))
    data, _ = run_data(run, config.source, config.data_dir)
    key = jax.random.key(config.seed)
    if config.out.suffix == ".png":
        shown = data[: _SHOWN // 2]
        made = reconstructions(run.model, shown, key=key, progress=False)
        _write(config.out, np.stack([shown, made], axis=1).reshape(-1, *made.shape[1:]))
    else:
        _write(config.out, reconstructions(run.model, data, key=key, progress=config.progress))
    return 0


def sample_run(config: Sample) -> int:
    """The program's `sample`; its exit code."""
    run = open_run(config.run)
    new_file(config.out, (".npy", ".png"))
    if config.n < 1:
        raise ValueError(f"-n must be >= 1, got {config.n}.")
    z_key, x_key = jax.random.split(jax.random.key(config.seed))
    latent_size = run.config.model.latent_size
    if config.between is not None:
        z = _between(config, run, key=z_key)
    elif config.mixture is not None:
        z = _mixture_draws(config, run, config.mixture, key=z_key)
    else:
        samples = prior_samples(run.model, config.n, latent_size, key=x_key, mean=config.mean)
        _write(config.out, samples)
        return 0
    _write(config.out, decoded(run.model, z, key=x_key, mean=config.mean))
    return 0


def _between(config: Sample, run: Run, *, key: PRNGKeyArray) -> Float[Array, "n d"]:
    """Latent points on the way between the flow's ends for two test examples."""
    data, _ = run_data(run, None, config.data_dir)
    assert config.between is not None
    if not all(0 <= index < len(data) for index in config.between):
        raise ValueError(
            f"--between takes two indices of test examples, 0 to {len(data) - 1}, "
            f"got {config.between[0]} {config.between[1]}."
        )
    ends = encode(run.model, data[np.array(config.between)], key=key, progress=False).z[:, 0]
    return interpolation(jnp.asarray(ends[0]), jnp.asarray(ends[1]), config.n, path=config.path)


def _mixture_draws(
    config: Sample, run: Run, components: int, *, key: PRNGKeyArray
) -> Float[Array, "n d"]:
    """Draws from a mixture of Gaussians fitted to where the training data lie."""
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ValueError("--mixture needs scikit-learn: install hvax[mixture].") from error
    parts = load_parts(run.config)
    if components < 1 or components > len(parts.train):
        raise ValueError(f"--mixture must be between 1 and the training points, got {components}.")
    rows = dataclasses.replace(parts.train, index=None, stored=parts.train.rows(slice(0, _FITTED)))
    if parts.transform is not None:
        rows = binarise_once(rows, "train")
    encode_key, draw_key = jax.random.split(key)
    embedded = encode(run.model, rows, key=encode_key, progress=False).z[:, 0]
    seed = int(jax.random.randint(draw_key, (), 0, 2**31 - 1))
    mixture = GaussianMixture(components, random_state=seed).fit(embedded.astype(np.float64))
    return jnp.asarray(mixture.sample(config.n)[0], dtype=float)


def _write(path: Path, arrays: NDArray[Any]) -> None:
    if path.suffix == ".png":
        save_grid(path, arrays[:_SHOWN])
    else:
        with path.open("xb") as file:
            np.save(file, arrays)
    print(f"{path}: {arrays.shape}")
