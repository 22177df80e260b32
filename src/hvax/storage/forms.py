"""What results.json and evaluation.json hold.

It is checked when they are read: the error about a file that was edited by hand names the file and
the value.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hvax.storage.files import write_atomically
from hvax.storage.json_files import dumps, read_json
from hvax.storage.run_folder import EVALUATION, RESULTS


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run. Raises `ValueError`, which names the file, where it is damaged
    or not of the form that belongs to its name."""
    record = read_json(path)
    try:
        check_form(path.name, record)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    return record


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object of a run, whole or not at all; NaN and infinity become null."""
    write_atomically(path, (dumps(record, indent=1) + "\n").encode())


def check_form(name: str, record: Mapping[str, Any]) -> None:
    """Raise `ValueError` where the record in a file of this name holds a value of another kind than
    hvax writes there. Files of other names are not checked."""
    if name == EVALUATION:
        _check(record, "", _EVALUATION)
    if name == RESULTS:
        for row, numbers in record.items():
            if row == "failed":
                _check(record, "", {"failed": _failure})
            elif not isinstance(numbers, dict):
                raise ValueError(f"the row {row!r} holds no numbers but {str(numbers)[:80]}")
            else:
                _check(numbers, f"{row}.", _DIFFERENCE if row == "difference" else _EVALUATION)


def _check(
    record: Mapping[str, Any], before: str, form: Mapping[str, Callable[[Any], str | None]]
) -> None:
    for name, value in record.items():
        wanted = form[name](value) if name in form else None
        if wanted is not None:
            raise ValueError(f"{before}{name} must be {wanted}, got {str(value)[:80]}")


# Each of these gives None for a value of its kind, and else what the value must be.
def _number(value: Any) -> str | None:
    """null stands for what is not finite."""
    return None if value is None or _is_number(value) else "a number or null"


def _count(value: Any) -> str | None:
    return None if type(value) is int and value >= 0 else "an integer >= 0"


def _at_least_one(value: Any) -> str | None:
    return None if type(value) is int and value >= 1 else "an integer >= 1"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _words(value: Any) -> str | None:
    return None if isinstance(value, str) else "a text"


def _bounds(value: Any) -> str | None:
    sizes = isinstance(value, dict) and all(
        size.isascii() and size.isdigit() and 0 < len(size) < 10 and _number(bound) is None
        for size, bound in value.items()
    )
    return None if sizes else "numbers by a number of samples"


def _numbers(value: Any) -> str | None:
    """A number, or lists of them, of one length where they are nested; null for no flow."""
    if value is None or _is_number(value):
        return None
    alike = isinstance(value, list) and len({_size(item) for item in value}) == 1
    if alike and all(item is not None and _numbers(item) is None for item in value):
        return None
    return "a number, a list of numbers or null"


def _size(item: Any) -> int | None:
    return len(item) if isinstance(item, list) else None


def _counts(value: Any) -> str | None:
    counts = isinstance(value, dict) and all(_count(item) is None for item in value.values())
    return None if counts else "counts by name"


def _failure(value: Any) -> str | None:
    words = value.values() if isinstance(value, dict) else [value]
    return None if all(isinstance(word, str) for word in words) else "a text"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


_DIFFERENCE = dict.fromkeys(("elbo", "elbo_se", "nll", "nll_se"), _number)
_EVALUATION: dict[str, Callable[[Any], str | None]] = {
    **_DIFFERENCE,
    **dict.fromkeys(
        (
            "nll_mc_se", "nll_bias", "ess_median", "ess_5", "untrusted", "kl",
            "reconstruction_nll", "reconstruction_rmse", "distance", "energy_error", "divergent",
            "seconds_training", "seconds_compiling", "samples_needed", "eta",
        ),
        _number,
    ),
    **dict.fromkeys(
        (
            "active_units", "non_finite", "plain_points", "lost_points", "epochs", "best_epoch",
            "vae_epochs", "skipped",
        ),
        _count,
    ),
    **dict.fromkeys(("num_points", "num_samples", "latent_size"), _at_least_one),
    **dict.fromkeys(("gray", "trusted"), _flag),
    **dict.fromkeys(("ended", "weights", "source"), _words),
    **dict.fromkeys(("step_size", "beta", "bridge"), _numbers),
    "bounds": _bounds,
    "points_with": _counts,
}  # fmt: skip
