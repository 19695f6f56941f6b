"""SIREN (Sitzmann et al. 2020, arXiv 2006.09661): an image as a network from coordinates to colour.

Layers x -> sin(omega (W x + b)), the last one linear. Their initialization (section 3.2 there; biases apart) keeps what
stands inside each sine after the first near N(0, 1) however deep the network is, and so the sines at a mean square near
1/2:

    first layer     W ~ U(-1 / n, 1 / n)                                  n: inputs of the layer
    other layers    W ~ U(-sqrt(6 / n) / omega, sqrt(6 / n) / omega)
    biases          U(-1 / sqrt(n), 1 / sqrt(n)), as in the authors' code (they are torch's own)

omega is 30 in all layers in the paper. As in the authors' code the first layer can have one of its own: there it is the
range of frequencies, in the others only how far a step of a given size moves them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from hyperrun.config import TargetConfig, check_positive
from hyperrun.inputs import Images
from hyperrun.registry import register

INPUTS = 2
"""x and y."""


@dataclass
class SirenTarget(TargetConfig):
    """SIREN: a network of sines from coordinates to colour (Sitzmann et al. 2020)."""

    hidden_size: int
    """Sines in each layer."""
    layers: int
    """Layers of sines; a linear layer follows."""
    omega_0: float | None
    """Factor inside the sines of the first layer; null means pi / 4 for each pixel of the images' side (25 for 32
    pixels; 30 in the paper). The larger it is, the finer the detail, between the pixels too."""
    hidden_omega_0: float
    """Factor inside the sines of the other layers (30 in the paper). Their initial weights are divided by it, so that
    it changes nothing at the start, but what a learning rate means to them."""

    def __post_init__(self) -> None:
        check_positive("hidden_size", self.hidden_size)
        check_positive("layers", self.layers)
        if self.omega_0 is not None and not self.omega_0 > 0:
            raise ValueError(f"omega_0 must be positive or null, not {self.omega_0}")
        if not self.hidden_omega_0 > 0:
            raise ValueError(f"hidden_omega_0 must be positive, not {self.hidden_omega_0}")


class Siren(nn.Module):
    """A network from coordinates to colours.

    out_channels: 1 for grey, 3 for RGB.
    hidden_size: sines in each layer. layers: of sines, at least one; a linear layer follows.
    omega_0: factor inside the sines of the first layer. At the start it has angular frequencies up to omega_0 / 2 along
        each axis, of which an edge of the image, 2 long, holds omega_0 / (2 pi) periods.
    hidden_omega_0: factor inside those of the other layers.

    Input float [..., 2], x to the right and y downwards, both from -1 to 1; output [..., out_channels], where black is
    0 and full intensity 1, not clipped. (The last layer's range is [-1, 1], as in the paper.)
    """

    def __init__(self, out_channels: int, hidden_size: int, layers: int, omega_0: float, hidden_omega_0: float) -> None:
        super().__init__()
        self.omega_0, self.hidden_omega_0 = omega_0, hidden_omega_0
        sizes = [INPUTS, *[hidden_size] * layers, out_channels]
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            n = layer.in_features
            bound = math.sqrt(6 / n) / self.hidden_omega_0 if i else 1 / n
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -1 / math.sqrt(n), 1 / math.sqrt(n))

    def forward(self, x: Tensor) -> Tensor:
        first, *hidden, last = self.layers
        x = torch.sin(self.omega_0 * first(x))
        for layer in hidden:
            x = torch.sin(self.hidden_omega_0 * layer(x))
        return (last(x) + 1) / 2


@register("target", "siren", SirenTarget, takes="coordinates")
def build_siren(cfg: SirenTarget, inputs: Images) -> Siren:
    omega_0 = cfg.omega_0 or natural_omega_0(inputs.size)
    return Siren(inputs.channels, cfg.hidden_size, cfg.layers, omega_0, cfg.hidden_omega_0)


def natural_omega_0(image_size: int) -> float:
    """Return the omega_0 whose first layer reaches an eighth of the sampling rate: pi / 4 for each pixel of the side.

    25 for 32 pixels, near the paper's 30; 6 for 8 pixels, between which higher frequencies could do as they like.
    """
    return math.pi / 4 * image_size


def pixel_centres(size: int, device: torch.device | None = None) -> Tensor:
    """Return the coordinates of the pixels of a square image, row by row: float32 [size * size, 2], (x, y) in (-1, 1).

    A pixel is a square and its coordinates are those of its centre, so that grids of any size cover the same image.
    """
    ticks = (2 * torch.arange(size, device=device) + 1) / size - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x, y], -1).view(-1, INPUTS)
