"""A plain multilayer perceptron on flattened images, and the activations that go by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperrun.config import MLPTarget
from hyperrun.errors import UserError, choose

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
"""name -> function that is applied to each number."""


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


def build_mlp(cfg: MLPTarget, in_channels: int, num_classes: int, image_size: int) -> MLP:
    """Return the MLP from images [B, in_channels, image_size, image_size] to logits [B, num_classes]."""
    return MLP([in_channels * image_size**2, *cfg.hidden, num_classes], cfg.activation)
