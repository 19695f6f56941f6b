"""Networks whose weights may be generated. None of them knows that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from hyperrun.config import TargetConfig, register_choice
from hyperrun.errors import UserError
from hyperrun.targets.cnn import build_cnn
from hyperrun.targets.mlp import build_mlp
from hyperrun.targets.recurrent import build_recurrent
from hyperrun.targets.siren import build_siren
from hyperrun.targets.torchvision_models import build_torchvision
from hyperrun.targets.wide_resnet import build_wide_resnet

TARGETS: dict[str, Callable[[Any, int, int, int], nn.Module]] = {
    "cnn": build_cnn,
    "mlp": build_mlp,
    "wide_resnet": build_wide_resnet,
    "torchvision": build_torchvision,
}
"""kind -> function of (config, in_channels, num_classes, image_size); the network returns logits [B, num_classes]."""

LANGUAGE_TARGETS: dict[str, Callable[[Any, int], nn.Module]] = {"recurrent": build_recurrent}
"""kind -> function of (config, vocabulary size); the network returns (logits [B, T, vocabulary], state)."""

IMPLICIT_TARGETS: dict[str, Callable[[Any, int, int], nn.Module]] = {"siren": build_siren}
"""kind -> function of (config, channels, image_size); coordinates [..., 2] in [-1, 1] -> colours [..., channels]."""


def build_target(cfg: TargetConfig, in_channels: int, num_classes: int, image_size: int) -> nn.Module:
    """Return the network for images that the config describes, with its own initialization, in float32.

    Raises:
        UserError: a target for text.
    """
    if cfg.kind in IMPLICIT_TARGETS:
        raise UserError(f"target={cfg.kind} is an image and takes coordinates; it has no classes")
    if cfg.kind not in TARGETS:
        raise UserError(f"target={cfg.kind} does not take images (targets that do: {', '.join(sorted(TARGETS))})")
    return TARGETS[cfg.kind](cfg, in_channels, num_classes, image_size)


def build_language_target(cfg: TargetConfig, vocabulary: int) -> nn.Module:
    """Return the language model that the config describes, with its own initialization, in float32.

    Raises:
        UserError: a target for images.
    """
    if cfg.kind not in LANGUAGE_TARGETS:
        allowed = ", ".join(sorted(LANGUAGE_TARGETS))
        raise UserError(
            f"target={cfg.kind} does not take text (targets that do: {allowed}; model=lstm, hyperlstm, ...)"
        )
    return LANGUAGE_TARGETS[cfg.kind](cfg, vocabulary)


def build_implicit_target(cfg: TargetConfig, channels: int, image_size: int) -> nn.Module:
    """Return the network from coordinates to colours that the config describes, with its own initialization.

    Raises:
        UserError: a target that takes no coordinates.
    """
    if cfg.kind not in IMPLICIT_TARGETS:
        allowed = ", ".join(sorted(IMPLICIT_TARGETS))
        raise UserError(f"target={cfg.kind} does not take coordinates (targets that do: {allowed})")
    return IMPLICIT_TARGETS[cfg.kind](cfg, channels, image_size)


def register_target(
    kind: str, config: type[TargetConfig]
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Make a target of your own available as target=KIND (from a module named in plugins=[...]).

    `config` is a dataclass derived from TargetConfig; its fields, with their defaults, become target.FIELD. The
    decorated function takes (config, in_channels, num_classes, image_size).
    """

    def add(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        register_choice("target", kind, config)
        TARGETS[kind] = build
        return build

    return add
