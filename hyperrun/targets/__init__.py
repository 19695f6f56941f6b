"""Networks whose weights may be generated. None of them knows that."""

from __future__ import annotations

from torch import nn

from hyperrun.config import TargetConfig
from hyperrun.errors import UserError
from hyperrun.inputs import Inputs, Tasks
from hyperrun.registry import choices, chosen
from hyperrun.targets import cnn, mlp, recurrent, seq2seq, siren, torchvision_models, wide_resnet  # noqa: F401 (they register)

RECURRENT = "; model=lstm, hyperlstm, ..."
PRESETS = {"text": RECURRENT, "strokes": RECURRENT, "pairs": "; model=seq2seq, hyperseq2seq, ..."}
"""What to type for data of which few targets are."""


def build_target(cfg: TargetConfig, inputs: Inputs) -> nn.Module:
    """Return the network that the config describes for these data, with its own initialization, in float32.

    Raises:
        UserError: a target for other data.
    """
    target = chosen("target", cfg.kind)
    if takes_coordinates(cfg):
        if isinstance(inputs, Tasks):
            raise UserError(f"target={cfg.kind} is an image and takes coordinates; it has no classes")
        if inputs.word == "images":
            return target.build(cfg, inputs)
    if inputs.word not in taken_by(cfg.kind):
        allowed = sorted(name for name in choices("target") if inputs.word in taken_by(name))
        listed = ", ".join(allowed) + PRESETS.get(inputs.word, "")
        raise UserError(f"target={cfg.kind} does not take {inputs.word} (targets that do: {listed})")
    return target.build(cfg, inputs.of_one())


def taken_by(kind: str) -> tuple[str, ...]:
    """Return the words of the inputs that a target is for: ("images",), ("text", "strokes")."""
    takes = chosen("target", kind).facts["takes"]
    return (takes,) if isinstance(takes, str) else tuple(takes)


def takes_coordinates(cfg: TargetConfig) -> bool:
    """Return whether the target is an image: a network from coordinates to colours."""
    return "coordinates" in taken_by(cfg.kind)
