"""Exponential moving average of the trainable parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """shadow = decay * shadow + (1 - decay) * parameter, after every optimizer step.

    The average is over what the optimizer updates (the hypernet and the free parameters), not over generated weights.
    Early on the decay is min(decay, (1 + t) / (10 + t)), so that the initial values are forgotten soon. Buffers (batch
    norm statistics) are averages already and are used as they are.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.shadow: list[Tensor] = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for shadow, parameter in zip(self.shadow, self.parameters, strict=True):
            shadow.lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model holds the averaged parameters; afterwards its own again, bit for bit."""
        own = [p.detach().clone() for p in self.parameters]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                _copy(self.parameters, own)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the model the averaged parameters for good."""
        _copy(self.parameters, self.shadow)

    def state_dict(self) -> dict:
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        _copy(self.shadow, state["shadow"])


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    for a, b in zip(to, source, strict=True):
        a.copy_(b)
