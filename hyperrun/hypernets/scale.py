"""How large generated weights are at the start, whatever generates them; and the MLPs that generate them.

Three ways (`init`): variance_matched gives each parameter the standard deviation that the target's own initialization
gave it. The other two, of Chang et al. (2020), give *generated* weights the variance that keeps activations (hyperfan,
their hyperfan-in) or gradients (hyperfan_out) at their scale, with c = 1 / E[f(n)^2], n ~ N(0, 1), of the target's
activation f (2 for ReLU) and c_bias 2 if the layer's bias is generated too, otherwise 1:

    hyperfan        Var(w) = c / (c_bias fan_in)       Var(b) = c / 2
    hyperfan_out    Var(w) = c / fan_out               Var(b) = c max(0, 1 - fan_in / fan_out)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from hyperrun.config import check_positive, check_widths
from hyperrun.errors import UserError, choose
from hyperrun.hypernets.select import SelectingConfig
from hyperrun.targets.mlp import ACTIVATIONS

INITS = ("variance_matched", "hyperfan", "hyperfan_out")
RESIDUAL = 0.1
"""With theta_0: how large the generated part is at the start, beside what the parameter has on its own."""


@dataclass
class EmbeddedMLPConfig(SelectingConfig):
    """What the hypernets that are an MLP on learned embeddings share."""

    z_dim: int
    """Numbers in each embedding."""
    hidden: list[int]
    """Widths of the MLP's hidden layers."""
    init: str
    """variance_matched, hyperfan or hyperfan_out, as in the static hypernet."""
    residual: bool
    """Generate the difference to weights theta_0 that are learned, too (Ortiz et al. 2024)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("z_dim", self.z_dim)
        check_widths("hidden", self.hidden)
        choose("hypernet.init", self.init, INITS)


def rms(values: Tensor) -> float:
    """Return the root of the mean square: the standard deviation of weights drawn around zero, and defined for one."""
    return values.detach().double().square().mean().sqrt().item()


def rms_of_live(values: Tensor, what: str) -> float:
    """Return the root of the mean square, by which what a hypernet makes is divided.

    Raises:
        UserError: all numbers are zero: no hidden unit is on.
    """
    scale = rms(values)
    if not scale:
        raise UserError(f"no hidden unit of the hypernet is on at the start for {what}; make hypernet.hidden wider")
    return scale


def centres_and_stds(
    reference: Mapping[str, Tensor], init: str, activation: str = "relu"
) -> dict[str, tuple[float, float]]:
    """Return, for each parameter to generate, the constant it starts around and the standard deviation of the rest.

    reference: name -> the target's own initial value, [out, in, *spatial] or of one dimension.

    Matrices and kernels are centred at zero. Under hyperfan, so are their biases. Other vectors, such as norm scales,
    have no fan: they keep the mean that they had, around which they have to be able to move, so that one which starts
    constant gets a hundredth.
    """
    fans = (
        {}
        if init == "variance_matched"
        else hyperfan_stds({n: v.shape for n, v in reference.items()}, init, activation)
    )
    found = {}
    for name, value in reference.items():
        if name in fans:
            found[name] = 0.0, fans[name]
        elif value.ndim >= 2:
            found[name] = 0.0, rms(value)
        else:
            centre = value.detach().double().mean().item()
            found[name] = centre, rms(value - centre) or 0.01
    return found


def hyperfan_stds(shapes: Mapping[str, torch.Size], init: str, activation: str = "relu") -> dict[str, float]:
    """Return name -> standard deviation by the formulas above, of the parameters that have fans.

    Tensors of two or more dimensions, [outputs, inputs, ...], count as weights, and vectors NAME.bias as biases where
    the weight NAME.weight is generated too. Other vectors are left out.

    Raises:
        UserError: an unknown init or activation.
    """
    choose("init", init, INITS[1:])
    c = 1 / mean_square_after(activation, 1.0)
    stds = {}
    for name, shape in shapes.items():
        is_bias = name.endswith("bias")
        weight = shapes.get(name.removesuffix("bias") + "weight", ()) if is_bias else shape
        if len(weight) < 2:
            continue
        fan_in, fan_out = math.prod(weight[1:]), weight[0] * math.prod(weight[2:])
        if is_bias:
            variance = 1 / 2 if init == "hyperfan" else max(0.0, 1 - fan_in / fan_out)
        else:
            c_bias = 2 if name.removesuffix("weight") + "bias" in shapes else 1
            variance = 1 / (c_bias * fan_in) if init == "hyperfan" else 1 / fan_out
        stds[name] = math.sqrt(c * variance)
    return stds


def mean_square_after(activation: str, variance: float) -> float:
    """Return E[f(n)^2] of the activation f for n ~ N(0, variance), by the trapezoidal rule.

    Raises:
        UserError: an unknown activation.
    """
    choose("activation", activation, ACTIVATIONS)
    n = torch.linspace(-8, 8, 4001, dtype=torch.float64, device="cpu")
    density = torch.exp(-(n**2) / 2)
    return (ACTIVATIONS[activation](n * math.sqrt(variance)).square() * density).sum().item() / density.sum().item()


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
