"""`hvax encode`, `reconstruct` and `sample`: to the latent space of a run and back, as files."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from hvax.commands.directory import Run, open_run
from hvax.commands.inputs import (
    as_data,
    at_least_one,
    new_file,
    run_data,
    run_parts,
    seed_key,
    write_whole,
)
from hvax.config import Encode, InsideFile, Reconstruct, Sample
from hvax.data.binarize import binarize_once
from hvax.data.fill import as_text, csv_text
from hvax.evaluation.interpolate import interpolate
from hvax.evaluation.latent import decode, encode, reconstruct, sample
from hvax.report.images import image_grid, save_grid
from hvax.storage.files import write_atomically

_SHOWN = 64  # images in a .png
_FITTED = 20_000  # training points behind a mixture, at most


def encode_run(config: Encode) -> int:
    """The program's `encode`; its exit code."""
    samples = 1 if config.weights is None else config.weights
    at_least_one(weights=samples)
    key = seed_key(config.seed)
    run = open_run(config.run)
    new_file(config.out, (".npz",), overwrite=config.overwrite)
    data, labels, rows = run_data(run, config.source, config.file, config.own_data)
    encoding = encode(run.model, data, key=key, num_samples=samples, progress=config.progress)
    arrays: dict[str, NDArray[Any]] = {"mean": encoding.mean, "sigma": encoding.sigma}
    if config.weights is None:
        arrays["z"] = encoding.z[:, 0]
    else:
        arrays |= {"z": encoding.z, "log_weight": encoding.log_weight}
    arrays["row"] = rows
    if labels is not None:
        arrays["labels"] = labels
    write_whole(config.out, lambda file: np.savez(file, allow_pickle=False, **arrays))
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{config.out}: {shapes}")
    return 0


def reconstruct_run(config: Reconstruct) -> int:
    """The program's `reconstruct`; its exit code."""
    key = seed_key(config.seed)
    run = open_run(config.run)
    _check_output(
        run, config.out, overwrite=config.overwrite, suffixes=(".npy", ".npz", ".csv", ".png")
    )
    data, _, rows = run_data(run, config.source, config.file, config.own_data)
    if config.out.suffix == ".png":
        shown = data[: _SHOWN // 2]
        made = as_data(run, reconstruct(run.model, shown, key=key, progress=False))
        both = np.stack([shown, made], axis=1).reshape(-1, *made.shape[1:])
        _write(run, config.out, both)
    else:
        made = reconstruct(run.model, data, key=key, progress=config.progress)
        _write(run, config.out, made, row=rows)
    return 0


def sample_run(config: Sample) -> int:
    """The program's `sample`; its exit code."""
    at_least_one(n=config.n)
    if config.mixture is not None:
        at_least_one(mixture=config.mixture)
        if config.between is not None:
            raise ValueError("--between and --mixture are two ways to choose z; give one of them.")
    if config.between is not None and config.n < 2:
        raise ValueError(f"--between needs both its ends: -n must be >= 2, got {config.n}.")
    z_key, x_key = jax.random.split(seed_key(config.seed))
    run = open_run(config.run)
    _check_output(run, config.out, overwrite=config.overwrite)
    if config.between is None and config.mixture is None:
        made = sample(
            run.model,
            config.n,
            latent_size=run.config.model.latent_size,
            key=x_key,
            mean=config.mean,
            progress=config.progress,
        )
    else:
        choose = _mixture_draws if config.between is None else _between
        z = choose(config, run, key=z_key)
        made = decode(run.model, z, key=x_key, mean=config.mean, progress=config.progress)
    keeps_probabilities = config.mean and config.out.suffix == ".npy"
    _write(run, config.out, made if keeps_probabilities else as_data(run, made))
    return 0


def _between(config: Sample, run: Run, *, key: PRNGKeyArray) -> Float[np.ndarray, "n d"]:
    """Latent points on the way between the flow's ends for two test examples."""
    data, *_ = run_data(run, None, InsideFile(), config.own_data)
    assert config.between is not None
    if not all(0 <= index < len(data) for index in config.between):
        raise ValueError(
            f"--between takes two indices of test examples, 0 to {len(data) - 1}, "
            f"got {config.between[0]} {config.between[1]}."
        )
    ends = encode(run.model, data[np.array(config.between)], key=key, progress=False).z[:, 0]
    return interpolate(ends[0], ends[1], config.n, path=config.path)


def _mixture_draws(
    config: Sample, run: Run, *, key: PRNGKeyArray
) -> Float[Array | np.ndarray, "n d"]:
    """Draws from a mixture of Gaussians fitted to where the training data lie."""
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ValueError("--mixture needs scikit-learn: install hvax[mixture].") from error
    parts = run_parts(run, config.own_data)
    points = min(len(parts.train), _FITTED)
    assert config.mixture is not None
    if config.mixture > points:
        raise ValueError(
            f"--mixture must be at most {points}, the points it is fitted to, got {config.mixture}."
        )
    index = parts.train.index
    index = np.arange(len(parts.train)) if index is None else index
    rows = dataclasses.replace(parts.train, index=index[:_FITTED])
    if parts.transform is not None:
        rows = binarize_once(rows, "train")
    encode_key, draw_key, order_key = jax.random.split(key, 3)
    embedded = encode(run.model, rows, key=encode_key, progress=False).z[:, 0]
    seed = int(jax.random.randint(draw_key, (), 0, 2**31 - 1))
    mixture = GaussianMixture(config.mixture, random_state=seed).fit(embedded.astype(np.float64))
    # scikit-learn's draws come sorted by component.
    return jax.random.permutation(order_key, jnp.asarray(mixture.sample(config.n)[0], dtype=float))


def _check_output(
    run: Run, out: Path, *, overwrite: bool, suffixes: tuple[str, ...] = (".npy", ".csv", ".png")
) -> None:
    new_file(out, suffixes, overwrite=overwrite)
    if out.suffix == ".csv" and len(run.x_shape) != 1:
        raise ValueError(
            f"a .csv file is for tables, and {run.path} was trained on examples of shape "
            f"{run.x_shape}: write a .npy file."
        )
    if out.suffix == ".png":
        image_grid(np.zeros((1, *run.x_shape)))  # refuses vectors, before the work


def _write(run: Run, path: Path, made: NDArray[Any], **beside: NDArray[Any]) -> None:
    """An array as a .npy file, a table or a picture; as an .npz with what is given `beside` it."""
    arrays = {"x": made, **beside}
    if path.suffix == ".png":
        made = made[:_SHOWN]
        save_grid(path, made)
    elif path.suffix == ".npz":
        write_whole(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
    elif path.suffix == ".csv":
        names, columns = _as_columns(run, made)
        write_atomically(path, csv_text(names, columns).encode())
    else:
        write_whole(path, lambda file: np.save(file, made))
    print(f"{path}: {made.shape}")


def _as_columns(run: Run, made: NDArray[Any]) -> tuple[list[str], list[list[str]]]:
    """Rows as the text of columns, each with its name: classes by name, six digits of numbers."""
    if run.table is None:
        names = run.config.data.columns or tuple(str(i) for i in range(made.shape[1]))
        return list(names), [[f"{value:.6g}" for value in column] for column in made.T]
    columns = []
    for schema, column in zip(run.table.modeled, made.T, strict=True):
        whole = schema.is_integer or schema.kind == "count"
        columns.append([as_text(float(v), schema, whole=whole, comma=False) for v in column])
    return [schema.name for schema in run.table.modeled], columns
