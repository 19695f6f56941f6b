"""Networks whose weights may be generated. None of them knows that."""

from __future__ import annotations

from torch import nn

from hyperrun.config import TargetConfig
from hyperrun.errors import UserError
from hyperrun.inputs import Inputs, Tasks
from hyperrun.registry import choices, chosen
from hyperrun.targets import cnn, mlp, recurrent, siren, torchvision_models, wide_resnet  # noqa: F401 (they register)

PRESETS = {"text": "; model=lstm, hyperlstm, ..."}
"""What to type for data of which few targets are."""


def build_target(cfg: TargetConfig, inputs: Inputs) -> nn.Module:
    """Return the network that the config describes for these data, with its own initialization, in float32.

    Raises:
        UserError: a target for other data.
    """
    target = chosen("target", cfg.kind)
    if target.facts["takes"] == "coordinates":
        if isinstance(inputs, Tasks):
            raise UserError(f"target={cfg.kind} is an image and takes coordinates; it has no classes")
        if inputs.word == "images":
            return target.build(cfg, inputs)
    if target.facts["takes"] != inputs.word:
        allowed = sorted(name for name, one in choices("target").items() if one.facts["takes"] == inputs.word)
        listed = ", ".join(allowed) + PRESETS.get(inputs.word, "")
        raise UserError(f"target={cfg.kind} does not take {inputs.word} (targets that do: {listed})")
    return target.build(cfg, inputs.of_one())


def takes_coordinates(cfg: TargetConfig) -> bool:
    """Return whether the target is an image: a network from coordinates to colours."""
    return chosen("target", cfg.kind).facts["takes"] == "coordinates"
