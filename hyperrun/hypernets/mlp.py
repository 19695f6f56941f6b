"""The hypernet of most small examples: one embedding, one MLP, and a head for each parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hyperrun.hypernets.scale import RESIDUAL, centre_and_std, draw_for_relu, relu_layers


class MLPHypernet(nn.Module):
    """Generates parameters of any shapes, each by a linear head on the same hidden layer.

    The heads are rows of one matrix, [all numbers, hidden[-1]]: with the biases, hidden[-1] + 1 trainable numbers for
    every generated one. So it has more parameters than the target; ChunkedHypernet is the one that has fewer.

    reference: name -> the target's own initial value of each parameter to generate.
    z_dim: size of the one embedding. hidden: widths of the hidden layers (ReLU), at least one.
    init: see scale.initial_std. residual: as in ChunkedHypernet; theta_0 is then the heads' bias, so it costs nothing.

    Generation runs in float32 also under autocast; the operators that use the weights cast them.
    """

    def __init__(
        self,
        reference: Mapping[str, Tensor],
        z_dim: int = 32,
        hidden: Sequence[int] = (64,),
        init: str = "variance_matched",
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.shapes = {name: value.shape for name, value in reference.items()}
        self.z = nn.Parameter(torch.randn(z_dim))
        widths = [z_dim, *hidden]
        self.body = nn.Sequential(*relu_layers(widths))
        self.heads = nn.Linear(widths[-1], sum(shape.numel() for shape in self.shapes.values()))
        if not self.z.is_meta:
            self.initialize(reference, init, residual)

    def forward(self) -> dict[str, Tensor]:
        """Return name -> generated parameter, float32."""
        with torch.autocast(self.z.device.type, enabled=False):
            parts = self.heads(self.body(self.z)).split([shape.numel() for shape in self.shapes.values()])
            return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    @torch.no_grad()
    def initialize(self, reference: Mapping[str, Tensor], init: str, residual: bool) -> None:
        """Draw each head so that what it makes has its parameter's std: hyperfan, with the hidden layer's true norm."""
        draw_for_relu(self.body)
        norm = self.body(self.z).norm().item()
        start = 0
        for value in reference.values():
            mine = slice(start, start + value.numel())
            centre, std = centre_and_std(value, init)
            nn.init.normal_(self.heads.weight[mine], std=(RESIDUAL * std if residual else std) / norm)
            self.heads.bias[mine] = value.flatten() if residual else torch.tensor(centre)
            start += value.numel()
