"""Numbers as a reader writes them."""

import math
from collections.abc import Mapping
from typing import Any

_LARGE = 1e7  # from here on numbers are written in powers of ten
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """A number as a reader writes it: very large ones, and those that so many digits would round
    to 0, in powers of ten."""
    if math.isnan(value):
        return "not known"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    plus = "+" if sign else ""
    if value and not 0.5 * 10.0**-digits <= abs(value) < _LARGE:
        leading, exponent = f"{value:{plus}.2e}".split("e")
        return f"{leading} × {power(int(exponent))}".replace("-", "−")
    return f"{value:{plus},.{digits}f}".replace("-", "−")


def power(exponent: int) -> str:
    """A power of ten, such as 10⁻⁹."""
    return "10" + str(exponent).translate(_RAISED)


def known(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation from JSON, in which null stands for what is not finite: NaN again."""

    def or_nan(value: Any) -> Any:
        return math.nan if value is None else value

    no_flow = {name: evaluation.get(name) for name in ("step_size", "beta", "bridge", "eta")}
    bounds = {size: or_nan(value) for size, value in evaluation["bounds"].items()}
    return (
        {name: or_nan(value) for name, value in evaluation.items()} | no_flow | {"bounds": bounds}
    )
