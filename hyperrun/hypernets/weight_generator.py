"""Generators of conditional hypernets: an MLP from conditioning to all numbers of an example, in one flat vector.

What is generated starts with a given standard deviation (scale.py) because each row of the last layer is drawn with
that divided by sqrt(d_k E[h^2]): with d_k numbers h in the last hidden layer, E[h^2] their mean square (under ReLU that
is the conditioning's variance Var(e), as in the formulas of Chang et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hyperrun.hypernets.scale import RESIDUAL, centres_and_stds, mean_square_after
from hyperrun.targets.mlp import MLP


class WeightGenerator(nn.Module):
    """An MLP from conditioning to all generated numbers of an example in one vector.

    shapes: name -> shape of a tensor to generate, in the order of the vector.
    activation: of the generator's hidden layers.
    conditioning_variance: mean square of the numbers in the conditioning; 1 / n for one-hot vectors of n.
    encode: pass conditioning in [0, 1] through `encode_unit_interval` first; its mean square is then 1/2.
    stds: name -> standard deviation that a generated tensor starts with; without one, zero.
    start: name -> initial values. The last layer's bias starts with them, otherwise with zeros.

    Input float [batch, conditioning_size] or [conditioning_size]; output [batch, n] or [n], in the generator's own
    dtype (float32) also under autocast: what uses the numbers casts them.

    Raises:
        ValueError: conditioning of another shape.
        UserError: an unknown activation.
    """

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        conditioning_size: int,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        conditioning_variance: float = 1.0,
        encode: bool = False,
        *,
        stds: Mapping[str, float],
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.conditioning_size = conditioning_size
        self.encode = encode
        inputs = conditioning_size * (2 if encode else 1)
        self.mlp = MLP([inputs, *hidden_sizes, sum(map(math.prod, shapes.values()))], activation)
        self._initialize(shapes, stds, 0.5 if encode else conditioning_variance, start or {})

    @torch.no_grad()
    def _initialize(
        self,
        shapes: Mapping[str, torch.Size],
        stds: Mapping[str, float],
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
            nn.init.normal_(weight, std=stds.get(name, 0.0) / math.sqrt(last.in_features * mean_square))
            if name in start:
                bias.copy_(start[name].flatten())

    def forward(self, conditioning: Tensor) -> Tensor:
        if conditioning.dim() not in (1, 2) or conditioning.shape[-1] != self.conditioning_size:
            raise ValueError(f"conditioning must be [batch, {self.conditioning_size}], not {list(conditioning.shape)}")
        with torch.autocast(conditioning.device.type, enabled=False):
            inputs = conditioning.to(next(self.mlp.parameters()).dtype)
            inputs = encode_unit_interval(inputs) if self.encode else inputs
            return self.mlp(inputs) if inputs.dim() == 2 else self.mlp(inputs.unsqueeze(0)).squeeze(0)


def encode_unit_interval(conditioning: Tensor) -> Tensor:
    """Return (cos(pi g / 2), sin(pi g / 2)) for each number g in [0, 1]: [..., n] -> [..., 2n], of norm sqrt(n).

    The magnitude-invariant encoding of Ortiz et al. (2024): without it a generator with a piecewise linear activation
    makes weights in proportion to the magnitude of its input. Numbers outside [0, 1] lose their order.
    """
    angle = conditioning * (math.pi / 2)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class ParameterGenerator(nn.Module):
    """One MLP from conditioning to all selected parameters of any target: the hypernet of a ConditionalModel.

    reference: name -> the target's own initial value of each parameter to generate.
    init: see scale.py. target_activation: the one that sets c there.
    residual: theta = theta_0 + h(e), with theta_0 learned (it is the last layer's bias) and starting at the reference,
        so that the target starts as its own initialization has it; h(e) starts at RESIDUAL of what `init` says.

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
        init: str = "hyperfan",
        conditioning_variance: float = 1.0,
        residual: bool = False,
        encode: bool = False,
    ) -> None:
        super().__init__()
        self.shapes = {name: value.shape for name, value in reference.items()}
        stds, start = {}, {}
        if not any(value.is_meta for value in reference.values()):  # there only shapes are wanted, as for counting
            for name, (centre, std) in centres_and_stds(reference, init, target_activation).items():
                stds[name] = RESIDUAL * std if residual else std
                start[name] = reference[name] if residual else torch.full_like(reference[name], centre)
        self.generator = WeightGenerator(
            self.shapes,
            conditioning_size,
            hidden_sizes,
            activation,
            conditioning_variance,
            encode,
            stds=stds,
            start=start,
        )

    def forward(self, conditioning: Tensor) -> dict[str, Tensor]:
        flat = self.generator(conditioning)
        parts = flat.split([math.prod(shape) for shape in self.shapes.values()], dim=-1)
        return {
            name: part.view(*flat.shape[:-1], *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
