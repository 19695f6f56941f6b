"""A plain multilayer perceptron on flattened images, and the activations that go by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import TargetConfig, check_widths
from hyperrun.errors import UserError, choose
from hyperrun.inputs import Images
from hyperrun.registry import register

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
"""name -> function that is applied to each number."""


@dataclass
class MLPTarget(TargetConfig):
    """Linear layers on the flattened image."""

    hidden: list[int]
    """Widths of the hidden layers; [] leaves one linear layer."""
    activation: str
    """Between the layers: relu, leaky_relu, elu, gelu, silu or tanh."""

    def __post_init__(self) -> None:
        if self.hidden:
            check_widths("hidden", self.hidden)
        choose("target.activation", self.activation, ACTIVATIONS)


class MLP(nn.Module):
    """Linear layers, with an activation between each and the next and none after the last.

    sizes: (inputs, hidden, ..., outputs); two sizes make a single linear layer.

    Input float [B, *] with sizes[0] numbers an example, flattened; output [B, sizes[-1]].

    Raises:
        UserError: a size below 1, or an activation that is not in ACTIVATIONS.
    """

    def __init__(self, sizes: Sequence[int], activation: str = "relu") -> None:
        super().__init__()
        if min(sizes) < 1:
            raise UserError(f"the layers of an MLP need at least one unit each, not {list(sizes)}")
        self.activation = choose("activation", activation, ACTIVATIONS)
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        activate = ACTIVATIONS[self.activation]
        x = self.layers[0](x.flatten(1))
        for layer in self.layers[1:]:
            x = layer(activate(x))
        return x


@register("target", "mlp", MLPTarget, takes="images")
def build_mlp(cfg: MLPTarget, inputs: Images) -> MLP:
    return MLP([inputs.channels * inputs.size**2, *cfg.hidden, inputs.classes], cfg.activation)
