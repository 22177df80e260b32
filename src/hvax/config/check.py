"""A check that every command makes of its options."""

import math
from dataclasses import fields, is_dataclass
from typing import Any


def check_numbers(options: Any) -> None:
    """Raise `ValueError` for a number that is not finite, which config.json cannot store."""
    for option in fields(options):
        value = getattr(options, option.name)
        if is_dataclass(value):
            check_numbers(value)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                flag = f"--{option.name.replace('_', '-')}"
                raise ValueError(f"{flag} must be finite, got {number}. Give another number.")
