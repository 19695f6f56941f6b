"""How large generated weights are at the start, whatever generates them; and the MLPs that generate them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

RESIDUAL = 0.1
"""With theta_0: how large the generated part is at the start, beside what the parameter has on its own."""


def rms(values: Tensor) -> float:
    """Return the root of the mean square: the standard deviation of weights drawn around zero, and defined for one."""
    return values.detach().double().square().mean().sqrt().item()


def initial_std(value: Tensor, init: str) -> float:
    """Return the standard deviation that a generated parameter is to start with.

    value: the target's own initial value, [out, in, *spatial] or of one dimension.
    init: "variance_matched", that of `value`; "hyperfan", sqrt(2 / fan_in), and "hyperfan_out", sqrt(2 / fan_out): what
        hyperfan-in and hyperfan-out (Chang et al. 2020) give the weights of a layer with ReLU. Parameters of one
        dimension have no fans; they always start as the target's own.
    """
    if init == "variance_matched" or value.ndim < 2:
        return rms(value)
    fan_in = value[0].numel()
    fan = fan_in if init == "hyperfan" else fan_in // value.shape[1] * value.shape[0]
    return math.sqrt(2 / fan)


def centre_and_std(value: Tensor, init: str) -> tuple[float, float]:
    """Return the constant that is added to a generated parameter, and the standard deviation of the rest.

    Matrices and kernels are centred at zero. Biases and norm scales keep the mean that they had (0 or 1), around which
    they have to be able to move: one that starts constant gets a hundredth.
    """
    if value.ndim >= 2:
        return 0.0, initial_std(value, init)
    centre = value.detach().double().mean().item()
    return centre, rms(value - centre) or 0.01


def relu_layers(widths: Sequence[int]) -> list[nn.Module]:
    """Return linear layers of these widths, with a ReLU after each."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers


def draw_for_relu(layers: nn.Sequential) -> None:
    """Draw linear layers such that numbers keep their mean square through the ReLUs between them; biases are zero."""
    for module in layers:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
