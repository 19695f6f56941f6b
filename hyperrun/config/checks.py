"""Checks that several configs share."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any


def check_finite(config: Any) -> None:
    for f in fields(config):
        value = getattr(config, f.name)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{f.name} must be a finite number, not {number}")


def check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


def check_betas(betas: list[float]) -> None:
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), not {list(betas)}")


def check_widths(name: str, widths: list[int]) -> None:
    if not widths or min(widths) < 1:
        raise ValueError(f"{name} must be positive numbers, e.g. [64,64], not {list(widths)}")


def check_probability(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), not {value}")
