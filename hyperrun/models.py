"""Parameters counted, and widths chosen, from a config alone: shapes are built, and as a rule no data is read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from hyperrun.config import Config, TargetConfig
from hyperrun.data import Inputs, inputs_of
from hyperrun.errors import UserError
from hyperrun.hypernets import ParameterCounts, count_parameters
from hyperrun.load import build_model

WIDTHS = ("width", "hidden_size", "channels", "hidden")
"""Keys of targets that say how wide they are; of a list, every entry."""


def model_of_shapes(config: Config, inputs: Inputs | None = None) -> nn.Module:
    """Return the model on the meta device. Only a set of unknown shape (a folder, a file, a plugin's) is looked at.

    Raises:
        UserError: such a set is not there, or the model does not fit the data.
    """
    inputs = inputs or inputs_of(config.data)
    with torch.device("meta"):
        return build_model(config, inputs)


def counted(config: Config) -> ParameterCounts:
    """Return the parameter counts of the model that a config describes."""
    return count_parameters(model_of_shapes(config))


# ---------------------------------------------------------------- as many parameters as asked for


def choose_width(config: Config, typed: Iterable[str]) -> None:
    """Make the target as wide as brings the trainable parameters nearest to config.params.

    Raises:
        UserError: the target has no width, or one that was typed; even the narrowest has more parameters.
    """
    asked, key = config.params, width_key(config.target)
    assert asked is not None
    if key is None:
        raise UserError(f"params={asked} chooses a width, and target={config.target.kind} has no {' or '.join(WIDTHS)}")
    if any(word.partition("=")[0].lstrip("+") == f"target.{key}" for word in typed):
        raise UserError(f"params={asked} chooses target.{key}: type one of the two")
    inputs = inputs_of(config.data)

    def trainable(width: int) -> int:
        set_width(config.target, key, width)
        return count_parameters(model_of_shapes(config, inputs)).trainable

    narrowest = set_width(config.target, key, 1)
    high = narrowest
    while trainable(high) < asked:
        high *= 2
        if high > 2**16:
            raise UserError(f"params={asked}: even target.{width_of(config.target)} has fewer")
    if trainable(narrowest) > asked:
        smallest = f"target.{width_of(config.target)} has {trainable(narrowest):,} trainable parameters"
        raise UserError(f"params={asked}: even {smallest}")
    above = narrowest + bisect_left(range(narrowest, high + 1), asked, key=trainable)
    near = range(max(above - 1, narrowest), above + 1)
    set_width(config.target, key, min(near, key=lambda width: abs(trainable(width) - asked)))


def width_key(target: TargetConfig) -> str | None:
    return next((key for key in WIDTHS if hasattr(target, key)), None)


def set_width(target: Any, key: str, width: int) -> int:
    """Make the target that wide (a list of n numbers: of that sum) but 1 at least; return how wide it is."""
    value = getattr(target, key)
    if isinstance(value, list):
        n = len(value)
        value = [max((width + i) // n, 1) for i in range(n)]  # one at a time, the last first: finer steps
        width = sum(value)
    else:
        value = width
    setattr(target, key, value)
    if getattr(target, "tied", False):
        target.embedding = width
    return width


def width_of(target: TargetConfig) -> str:
    """Return the width as it would be typed: channels=[16,16]."""
    key = width_key(target)
    return f"{key}={getattr(target, key or '')}".replace(" ", "")
