"""What features and classes are called on the page: by their names, or else by index from 0."""

import re
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

Classes = Mapping[int, Sequence[str]]
"""The names of the classes of each feature that has classes, by its index."""

_LONGEST = 24  # characters of a name in a picture


def printable(words: str) -> str:
    """Words without control characters, lone surrogates and marks that turn the line round."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in words)


def short(name: str, most: int = _LONGEST) -> str:
    """A name as a picture can hold it; Matplotlib leaves out of a legend what starts with _."""
    name = printable(name).replace("\n", " ").strip()
    name = name if len(name) <= most else name[: most - 1].rstrip() + "…"
    return f" {name}" if name.startswith("_") else name or "(empty)"


def lines(name: str, width: int = 17, most: int = 2) -> str:
    """A name on lines of so many characters, cut off after the last."""
    wrapped = textwrap.wrap(name, width, max_lines=most, placeholder="…")
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in wrapped)


def feature_name(
    index: int, x_shape: tuple[int, ...], names: Sequence[str] | None, most: int = _LONGEST
) -> str:
    """The name of one number of an example; `index` counts in row-major order."""
    if names is not None:
        return short(names[index], most)
    if len(x_shape) == 1:
        return f"feature {index}"
    where = np.unravel_index(index, x_shape)
    return f"feature [{', '.join(str(i) for i in where)}]"


def check_names(names: Sequence[str] | None, x_shape: tuple[int, ...]) -> None:
    """Raises `ValueError` unless there is a name for each number of an example, or for each
    channel of series (T, C)."""
    if names is None:
        return
    size = int(np.prod(x_shape))
    if len(names) != size and not (len(x_shape) == 2 and len(names) in x_shape):
        raise ValueError(
            f"`feature_names` must be one per feature, {size} for examples of shape {x_shape}, got "
            f"{len(names)} names. Leave them out, or give one for each."
        )


def numbered(names: Sequence[str] | None) -> bool:
    """Whether names tell columns apart by a number alone (t0, t1, ...), or there are none."""
    return names is None or len({re.sub(r"\d+", "0", name) for name in names}) == 1
