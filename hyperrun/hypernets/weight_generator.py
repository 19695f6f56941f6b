"""Generators of conditional hypernets: an MLP from conditioning to all numbers of an example, in one flat vector.

They start with the initialization of Chang et al. (2020), "hyperfan", which draws the generator's last layer such that
the *generated* weights have the variance that keeps activations (hyperfan-in) or gradients (hyperfan-out) at their
scale. With d_k numbers h in the last hidden layer, E[h^2] their mean square (under ReLU that is the conditioning's
variance Var(e), as in the paper's formulas), and c = 2 for ReLU:

    hyperfan-in     Var(H_w) = c / (c_bias fan_in d_k E[h^2])   Var(H_b) = c / (2 d_k E[h^2])
    hyperfan-out    Var(H_w) = c / (fan_out d_k E[h^2])         Var(H_b) = c max(0, 1 - fan_in/fan_out) / (d_k E[h^2])

c_bias is 2 if the layer's bias is generated too, otherwise 1. Other activations have c = 1 / E[f(n)^2], n ~ N(0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hyperrun.errors import choose
from hyperrun.hypernets.scale import RESIDUAL
from hyperrun.targets.mlp import ACTIVATIONS, MLP

INITS = ("hyperfan_in", "hyperfan_out")


class WeightGenerator(nn.Module):
    """An MLP from conditioning to all generated numbers of an example in one vector.

    shapes: name -> shape of a tensor to generate, in the order of the vector.
    activation: of the generator's hidden layers.
    target_activation: the one that sets c in the formulas above.
    conditioning_variance: mean square of the numbers in the conditioning; 1 / n for one-hot vectors of n.
    encode: pass conditioning in [0, 1] through `encode_unit_interval` first; its mean square is then 1/2.
    start: name -> initial values. The last layer's bias starts with them, otherwise with zeros.
    scale: factor on the standard deviation that `init` gives the generated numbers.

    Input float [batch, conditioning_size] or [conditioning_size]; output [batch, n] or [n], in the generator's own
    dtype (float32) also under autocast: what uses the numbers casts them.

    Raises:
        ValueError: conditioning of another shape.
        UserError: an unknown activation or init.
    """

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        conditioning_size: int,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        target_activation: str = "relu",
        init: str = "hyperfan_in",
        conditioning_variance: float = 1.0,
        encode: bool = False,
        start: Mapping[str, Tensor] | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.conditioning_size = conditioning_size
        self.encode = encode
        inputs = conditioning_size * (2 if encode else 1)
        self.mlp = MLP([inputs, *hidden_sizes, sum(map(math.prod, shapes.values()))], activation)
        c = scale**2 / mean_square_after(target_activation, 1.0)
        variances = {name: c * variance for name, variance in hyperfan_variances(shapes, init).items()}
        self._initialize(shapes, variances, 0.5 if encode else conditioning_variance, start or {})

    @torch.no_grad()
    def _initialize(
        self,
        shapes: Mapping[str, torch.Size],
        variances: Mapping[str, float],
        mean_square: float,
        start: Mapping[str, Tensor],
    ) -> None:
        gain = 1 / mean_square_after(self.mlp.activation, 1.0)
        *hidden, last = [layer for layer in self.mlp.layers if isinstance(layer, nn.Linear)]
        for layer in hidden:
            nn.init.normal_(layer.weight, std=math.sqrt(gain / layer.in_features))
            nn.init.zeros_(layer.bias)
            mean_square = mean_square_after(self.mlp.activation, gain * mean_square)
        nn.init.zeros_(last.bias)
        sizes = [math.prod(shape) for shape in shapes.values()]
        for name, weight, bias in zip(shapes, last.weight.split(sizes), last.bias.split(sizes), strict=True):
            variance = variances.get(name, 0.0) / (last.in_features * mean_square)
            nn.init.normal_(weight, std=math.sqrt(variance))
            if name in start:
                bias.copy_(start[name].flatten())

    def forward(self, conditioning: Tensor) -> Tensor:
        if conditioning.dim() not in (1, 2) or conditioning.shape[-1] != self.conditioning_size:
            raise ValueError(f"conditioning must be [batch, {self.conditioning_size}], not {list(conditioning.shape)}")
        with torch.autocast(conditioning.device.type, enabled=False):
            inputs = conditioning.to(next(self.mlp.parameters()).dtype)
            inputs = encode_unit_interval(inputs) if self.encode else inputs
            return self.mlp(inputs) if inputs.dim() == 2 else self.mlp(inputs.unsqueeze(0)).squeeze(0)


def mean_square_after(activation: str, variance: float) -> float:
    """Return E[f(n)^2] of the activation f for n ~ N(0, variance), by the trapezoidal rule.

    Raises:
        UserError: an unknown activation.
    """
    choose("activation", activation, ACTIVATIONS)
    n = torch.linspace(-8, 8, 4001, dtype=torch.float64, device="cpu")
    density = torch.exp(-(n**2) / 2)
    return (ACTIVATIONS[activation](n * math.sqrt(variance)).square() * density).sum().item() / density.sum().item()


def hyperfan_variances(shapes: Mapping[str, torch.Size], init: str) -> dict[str, float]:
    """Return name -> variance that the generated numbers should start with, in units of c: 1 / (c_bias fan_in), ...

    Tensors of two or more dimensions, [outputs, inputs, ...], count as weights, and vectors NAME.bias as biases where
    the weight NAME.weight is generated too. Other vectors, such as the scales of norm layers, have no fan: left out.
    """
    choose("init", init, INITS)
    variances = {}
    for name, shape in shapes.items():
        is_bias = name.endswith("bias")
        weight = shapes.get(name.removesuffix("bias") + "weight", ()) if is_bias else shape
        if len(weight) < 2:
            continue
        fan_in, fan_out = math.prod(weight[1:]), weight[0] * math.prod(weight[2:])
        if is_bias:
            variances[name] = 1 / 2 if init == "hyperfan_in" else max(0.0, 1 - fan_in / fan_out)
        else:
            c_bias = 2 if name.removesuffix("weight") + "bias" in shapes else 1
            variances[name] = 1 / (c_bias * fan_in) if init == "hyperfan_in" else 1 / fan_out
    return variances


def encode_unit_interval(conditioning: Tensor) -> Tensor:
    """Return (cos(pi g / 2), sin(pi g / 2)) for each number g in [0, 1]: [..., n] -> [..., 2n], of norm sqrt(n).

    The magnitude-invariant encoding of Ortiz et al. (2024): without it a generator with a piecewise linear activation
    makes weights in proportion to the magnitude of its input. Numbers outside [0, 1] lose their order.
    """
    angle = conditioning * (math.pi / 2)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class ParameterGenerator(nn.Module):
    """The hypernet of a ConditionalModel: one MLP from conditioning to all selected parameters of any target.

    reference: name -> the target's own initial value of each parameter to generate. Weights start with hyperfan's
        variance; vectors that are no bias of such a weight (scales of norm layers) with the value itself.
    residual: theta = theta_0 + h(e), with theta_0 learned (it is the last layer's bias) and starting at the reference,
        so that the target starts as its own initialization has it; h(e) starts at RESIDUAL of hyperfan's.

    Input float [batch, conditioning_size] or [conditioning_size]; output {name: [batch, *shape] or shape}, float32
    also under autocast. Other arguments and errors as in WeightGenerator.
    """

    def __init__(
        self,
        reference: Mapping[str, Tensor],
        conditioning_size: int,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        target_activation: str = "relu",
        init: str = "hyperfan_in",
        conditioning_variance: float = 1.0,
        residual: bool = False,
        encode: bool = False,
    ) -> None:
        super().__init__()
        self.shapes = {name: value.shape for name, value in reference.items()}
        with_fan = hyperfan_variances(self.shapes, init)
        self.generator = WeightGenerator(
            self.shapes,
            conditioning_size,
            hidden_sizes,
            activation,
            target_activation,
            init,
            conditioning_variance,
            encode,
            start={name: value for name, value in reference.items() if residual or name not in with_fan},
            scale=RESIDUAL if residual else 1.0,
        )

    def forward(self, conditioning: Tensor) -> dict[str, Tensor]:
        flat = self.generator(conditioning)
        parts = flat.split([math.prod(shape) for shape in self.shapes.values()], dim=-1)
        return {
            name: part.view(*flat.shape[:-1], *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
