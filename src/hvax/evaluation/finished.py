"""Checkpoints of annealed importance sampling: finished batches in a JSON file with a checksum.

The file is written atomically. Its name is a hash of everything that the numbers depend on.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from hvax.batch import Batch
from hvax.exceptions import DamagedCheckpoint, warn
from hvax.models.latent_model import AbstractLatentModel
from hvax.storage.files import write_atomically
from hvax.storage.json_files import verify_checksum, with_checksum
from hvax.storage.structure import digest

FORMAT = 1
_ROWS = 4096  # hashed at a time


class Bounds(NamedTuple):
    """Bounds on log p(x) of some data points, from AIS."""

    lower: NDArray[np.float64]  # (points,), nats
    upper: NDArray[np.float64] | None  # (points,), nats
    acceptance: NDArray[np.float64]  # (points,): mean acceptance probability
    lost: NDArray[np.int64]  # (points,): chains whose weight counts as 0

    def only(self, mask: NDArray[np.bool_]) -> "Bounds":
        """The bounds of the points selected by `mask`."""
        upper = None if self.upper is None else self.upper[mask]
        return Bounds(self.lower[mask], upper, self.acceptance[mask], self.lost[mask])


class Finished:
    """The finished batches of one AIS run, by the index of their first point.

    With a folder they are kept in a file, where a later process finds them. A damaged file causes a
    warning (`DamagedCheckpoint`), and its batches are computed again.
    """

    def __init__(self, folder: Path | None, work: Mapping[str, Any]):
        self._work = dict(work)
        plain = json.dumps(self._work, sort_keys=True).encode()
        name = f"ais-{hashlib.sha256(plain).hexdigest()[:16]}.json"
        self._path = None if folder is None else folder / name
        self._records: dict[str, Any] = {}
        if self._path is not None and self._path.is_file():
            self._records = self._read(self._path)

    def get(self, begin: int) -> Bounds | None:
        """The batch whose first point is `begin`, if it is finished."""
        record = self._records.get(str(begin))
        return None if record is None else _bounds(record)

    def add(self, begin: int, bounds: Bounds) -> None:
        """Store a batch; once this returns, it survives a kill of the process."""
        self._records[str(begin)] = _record(bounds)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = {"format": FORMAT, "work": self._work, "batches": self._records}
            write_atomically(self._path, with_checksum(content))

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            record = verify_checksum(path.read_bytes())
            if record.get("format") != FORMAT or record.get("work") != self._work:
                raise ValueError("it is one of another run")
            for begin, batch in record["batches"].items():
                self._check(begin, _bounds(batch))
            return record["batches"]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            warn(DamagedCheckpoint, f"{path} is damaged ({error}); its batches are computed again.")
            return {}

    def _check(self, begin: str, bounds: Bounds) -> None:
        """Raise `ValueError` for bounds that no batch of this run can have."""
        points, latents = self._work["shape"][0], self._work["latents"]
        size = min(self._work["batch"], points)
        if begin not in {str(start) for start in range(0, points, size)}:
            raise ValueError(f"no batch begins at {begin[:20]}")
        here = (min(size, points - int(begin)),)
        shapes = {array.shape for array in bounds if array is not None}
        if shapes != {here} or (bounds.upper is None) != (latents is None):
            raise ValueError(f"the batch at {begin} is not of {here[0]} points")
        outside = (bounds.acceptance < 0) | (bounds.acceptance > 1)
        if np.any(outside) or np.any(bounds.lost < 0) or np.any(np.isnan(bounds.lower)):
            raise ValueError(f"the batch at {begin} holds numbers that no batch has")


def fingerprint(
    vae: AbstractLatentModel,
    data: Batch,
    latents: NDArray[np.floating] | None,
    key: PRNGKeyArray,
    **settings: Any,
) -> dict[str, Any]:
    """Everything that the numbers of AIS depend on, as JSON types."""
    rows = hashlib.sha256()
    for part in data.parts():
        for start in range(0, len(part), _ROWS):
            rows.update(np.ascontiguousarray(part[start : start + _ROWS]).tobytes())
    # The digest covers the arrays; static parts, such as activations, are in the printed structure.
    structure = eqx.tree_pformat(vae).encode()
    return {
        "model": digest(vae),
        "structure": hashlib.sha256(structure).hexdigest(),
        "data": rows.hexdigest(),
        "shape": [len(data.x), *data.x.x_shape],
        "latents": None if latents is None else _sha256(latents),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "jax": jax.__version__,
        "x64": bool(jax.config.read("jax_enable_x64")),
        **settings,
    }


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _record(bounds: Bounds) -> dict[str, Any]:
    """Bounds as JSON types; infinities become null, as JSON has none."""

    def known(values: NDArray[np.float64] | None) -> list[float | None] | None:
        if values is None:
            return None
        return [value if math.isfinite(value) else None for value in values.tolist()]

    return {
        "lower": known(bounds.lower),
        "upper": known(bounds.upper),
        "acceptance": bounds.acceptance.tolist(),
        "lost": bounds.lost.tolist(),
    }


def _bounds(record: Mapping[str, Any]) -> Bounds:
    def known(values: list[float | None], unknown: float) -> NDArray[np.float64]:
        return np.array([unknown if v is None else v for v in values], np.float64)

    upper = record["upper"]
    return Bounds(
        lower=known(record["lower"], -math.inf),
        upper=None if upper is None else known(upper, math.inf),
        acceptance=np.array(record["acceptance"], np.float64),
        lost=np.array(record["lost"], np.int64),
    )
